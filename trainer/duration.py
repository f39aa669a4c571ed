"""Durations and intervals in epochs, steps or examples."""

import math
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

_FORM = re.compile(r"(\d+(?:_\d+)*(?:\.\d+)?(?:e\+?\d+)?)\s*(steps?|epochs?|examples?)?")
# More steps than any training has; TensorFlow counts them in 64 bits.
_MOST = 1e15


def _normalised(value: object) -> str:
    match = _FORM.fullmatch(str(value).strip())
    if not match or isinstance(value, bool):
        raise ValueError("Write a number and its unit, like `10 epochs`, `500 steps` or `1e6 examples`")
    number, unit = match.groups()
    if float(number) > _MOST:
        raise ValueError(f"Write a number of at most {_MOST:g}")
    return f"{number} {(unit or 'epochs').removesuffix('s')}s"


def _positive(value: str) -> str:
    if float(value.split(maxsplit=1)[0]) == 0:
        raise ValueError("Write a number above 0")
    return value


#: A number of epochs, or a number with a unit: `10 epochs`, `0.5 epochs`, `500 steps`, `1_000_000 examples`.
Duration = Annotated[
    str,
    BeforeValidator(_normalised),
    WithJsonSchema(
        {
            "type": ["string", "number"],
            "pattern": f"^{_FORM.pattern}$",
            "examples": ["10 epochs", "500 steps", "1e6 examples"],
        }
    ),
]

#: A duration above 0.
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]


def in_steps(duration: Duration, batch_size: int, steps_per_epoch: int) -> int:
    """Converts a duration into optimiser steps, rounded up.

    Args:
        duration: The duration to convert.
        batch_size: Number of images in a step, over all replicas.
        steps_per_epoch: Number of whole batches in one pass over the images.
    """
    number, unit = duration.split()
    steps = float(number) * {"steps": 1, "epochs": steps_per_epoch, "examples": 1 / batch_size}[unit]
    # Rounded first, because 0.1 * 30 is a little more than 3.
    return math.ceil(round(steps, 6))
