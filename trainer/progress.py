"""Reports the progress of long work as log records, which a terminal draws as a bar and a pod's log shows as lines."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from trainer.time_limit import spoken

logger = logging.getLogger("nnclr.progress")

_EVERY_SECONDS = 0.5
# The first steps of a training, which compile graphs, tell nothing about the later ones.
_UNTIMED_STEPS, _TIMED_SECONDS = 2, 5.0
# A message explains any silence that is longer than this.
_SILENT_SECONDS = 5.0

_waiting = threading.local()


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Logs what is being waited for, if the body takes more than 5 seconds. Of nested calls, only the outermost logs.

    Args:
        what: The service that may not answer, and when nnclr gives up.
    """
    if getattr(_waiting, "announced", False):
        yield
        return
    _waiting.announced = True
    timer = threading.Timer(_SILENT_SECONDS, logger.info, ["Waiting for %s ...", what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _waiting.announced = False


@dataclass(frozen=True)
class Progress:
    """The progress of a piece of work, which is the attribute `progress` of a log record.

    Attributes:
        task: Name of the work.
        done: Number of images done.
        total: Number of all images.
        images_per_second: Speed of the work.
        note: A few words on how the work is going.
    """

    task: str
    done: int
    total: int
    images_per_second: float
    note: str = ""

    @property
    def seconds_left(self) -> float:
        return (self.total - self.done) / self.images_per_second if self.images_per_second else float("inf")


class Reporter:
    """Counts images and logs the progress at most twice a second, and at the end.

    Args:
        task: Name of the work, for people.
        total: Number of all images.
        done: Number of images that were done earlier.
    """

    def __init__(self, task: str, total: int, done: int = 0):
        self._task, self._total = task, total
        self._done = self._before = done
        self._start = self._last = time.monotonic()

    def advance(self, images: int, note: str = "") -> None:
        """Adds a number of images to those done; `note` is a few words on how the work is going."""
        self._done += images
        now = time.monotonic()
        if now - self._last < _EVERY_SECONDS and self._done < self._total:
            return
        self._last = now
        rate = (self._done - self._before) / max(now - self._start, 1e-9)
        state = Progress(self._task, self._done, self._total, rate, note)
        logger.info(
            "%s: %d of %d images, %.0f images/s, %.0f s left%s",
            *(state.task, state.done, state.total, rate, state.seconds_left),
            f", {note}" if note else "",
            extra={"progress": state},
        )


class Estimate:
    """Logs once, soon after the start of a training, how long it will take. Short trainings end before that.

    Args:
        steps: Number of steps to make.
        images: Number of images in a step.
        slower_later: Whether later steps take longer than the first ones.
    """

    def __init__(self, steps: int, images: int, slower_later: bool = False):
        self._steps, self._images, self._slower_later = steps, images, slower_later
        self._done, self._start = 0, 0.0

    def count_step(self) -> None:
        """Counts a step that was made."""
        self._done += 1
        timed = self._done - _UNTIMED_STEPS
        if timed == 0:
            self._start = time.monotonic()
        elapsed = time.monotonic() - self._start
        if timed <= 0 or not self._steps or elapsed < _TIMED_SECONDS:
            return
        logger.info(
            "%s steps of %s images take %s %s (%.0f images/s%s).",
            f"{self._steps:,}",
            f"{self._images:,}",
            "at least" if self._slower_later else "about",
            spoken(self._steps * elapsed / timed),
            timed * self._images / elapsed,
            " on smaller views" if self._slower_later else "",
        )
        self._steps = 0
