"""Tells what to do if a training needs more memory than there is."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from trainer.config import TrainerSettings
from trainer.errors import SettingsError

# What TensorFlow's errors say, which are of several classes: for a tensor, for a batch on its way to a GPU, and for a
# constant. It uses the same classes for other problems, too.
_NO_ROOM = re.compile(
    "OOM when allocating|failed to allocate|out of memory|Dst tensor is not initialized|Cannot parse tensor from proto",
    re.IGNORECASE,
)


@contextmanager
def explained(settings: TrainerSettings) -> Iterator[None]:
    """Turns the error of a failed allocation into one that names the settings to change.

    Args:
        settings: Settings of the trainer.

    Raises:
        SettingsError: If TensorFlow or NumPy has no room for an array.
    """
    try:
        yield
    except (MemoryError, tf.errors.OpError) as error:
        if isinstance(error, tf.errors.OpError) and not _NO_ROOM.search(str(error)):
            raise
        raise SettingsError(
            f"The training needs more memory than there is{_array_and_device(error)}. Set trainer.batch_size below "
            f"{settings.batch_size}, or set trainer.accumulate above {settings.accumulate}: it divides each batch into "
            "parts that are processed one after the other. Smaller images and a trainer.support_set_size below "
            f"{settings.support_set_size} need less memory, too."
        ) from error


def _array_and_device(error: BaseException) -> str:
    """Returns a clause that names the array without room and its device; it is empty if the message names none."""
    found = re.search(r"allocating (tensor with shape\[[\d,]*\] and type \w+ on \S+)", str(error))
    return f", for a {found[1]}" if found else ""
