"""Heavy imports, without the garbage collector."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """For the first import of TensorFlow, TFX, Beam or MLflow: Python looks for no garbage meanwhile, or in it later.

    Modules stay to the end of the process. To look again and again whether one of their million objects can go, the
    last time when the process ends, took a third of the time of a run that has nothing new to do.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
