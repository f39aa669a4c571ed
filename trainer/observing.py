"""Lets others follow the metrics of a training while it goes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Observer(Protocol):
    """Is given the metrics of a training as soon as they are measured, for instance to show them elsewhere."""

    def __call__(self, row: dict[str, float]) -> None:
        """Takes one measurement. It must return at once, because the training waits, and raise nothing.

        A training that was resumed gives the measurements from before the interruption again.

        Args:
            row: Metrics by name. `step` is the number of steps done.
        """


_observers: list[Observer] = []


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Gives an observer the metrics of every training that this process runs in the meantime."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def tell(row: dict[str, float]) -> None:
    """Gives a measurement to all observers, see `Observer`."""
    for observer in _observers:
        observer(row)
