"""Tells what to do if a training needs more memory than there is."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from trainer.config import TrainerSettings
from trainer.errors import SettingsError

# TensorFlow's message if there is no room for a constant.
_NO_ROOM_FOR_A_CONSTANT = "Cannot parse tensor from proto"


@contextmanager
def explained(settings: TrainerSettings) -> Iterator[None]:
    """Turns a failed allocation into one sentence.

    Args:
        settings: Settings of the trainer.

    Raises:
        SettingsError: If TensorFlow or NumPy has no room for an array.
    """
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError, tf.errors.InvalidArgumentError) as error:
        if isinstance(error, tf.errors.InvalidArgumentError) and _NO_ROOM_FOR_A_CONSTANT not in str(error):
            raise
        raise SettingsError(
            f"The training needs more memory than there is{_array_and_device(error)}. Set trainer.batch_size below "
            f"{settings.batch_size}, or trainer.accumulate above {settings.accumulate}, which processes each batch in "
            f"that many parts. A smaller trainer.support_set_size than {settings.support_set_size} and smaller images "
            "need less memory, too."
        ) from error


def _array_and_device(error: BaseException) -> str:
    """Returns the array that has no room and its device, in parentheses, if the message tells them."""
    found = re.search(r"allocating (tensor with shape\[[\d,]*\] and type \w+ on \S+)", str(error))
    return f", for a {found[1]}" if found else ""
