"""Faster imports of large libraries."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pauses the garbage collector while TensorFlow, TFX, Beam or MLflow is imported for the first time.

    The imported objects are also exempt from later collections: modules live until the process ends, and scanning
    their million objects again and again took a third of the time of a run in which every component is cached.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
