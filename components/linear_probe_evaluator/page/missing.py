"""Replaces a part of the page that cannot be made by a sentence, so that no part ends a run."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup

from components.linear_probe_evaluator.projection import NoProjection

logger = logging.getLogger("nnclr")

_T = TypeVar("_T")


@dataclass(frozen=True)
class Missing:
    """What the page shows instead of a part: a sentence with the reason."""

    sentence: str

    def __html__(self) -> str:
        return Markup('<p class="missing">{}</p>').format(self.sentence)


def made(part: str, make: Callable[[], _T]) -> _T | Missing:
    """Returns what `make` returns, or what to show instead if it fails; the log then has the details.

    Args:
        part: Name of the part in sentences, such as `map of the embeddings`.
        make: Makes the part.
    """
    try:
        return make()
    except NoProjection as reason:
        missing = Missing(f"The report shows no {part}: {reason}.")
        logger.warning("%s", missing.sentence)
    except Exception as error:
        missing = Missing(f"The report shows no {part} because of an error ({type(error).__name__}: {error}).")
        logger.exception("%s", missing.sentence)
    return missing
