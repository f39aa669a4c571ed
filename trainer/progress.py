"""Progress of long work as log records: a pod's log shows them as lines, a terminal draws a bar from them."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

logger = logging.getLogger("nnclr.progress")

_EVERY_SECONDS = 0.5
# How long somebody looks at a silent screen before it must say what it waits for.
_SILENT_SECONDS = 5.0

_waiting = threading.local()


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Says what is being waited for, if what happens inside takes more than 5 seconds.

    Args:
        what: a place that may not answer, and when it is given up. Of several around each other the outermost counts.
    """
    if getattr(_waiting, "told", False):
        yield
        return
    _waiting.told = True
    timer = threading.Timer(_SILENT_SECONDS, logger.info, ["Waiting for %s ...", what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _waiting.told = False


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is. It travels as the attribute `progress` of the log record."""

    task: str
    done: int
    total: int
    images_per_second: float
    note: str = ""

    @property
    def seconds_left(self) -> float:
        return (self.total - self.done) / self.images_per_second if self.images_per_second else float("inf")


class Reporter:
    """Counts images and reports at most twice a second, and once at the end.

    Args:
        task: what is being done, as a person would say it.
        total: images in all.
        done: of these, before now.
    """

    def __init__(self, task: str, total: int, done: int = 0):
        self._task, self._total = task, total
        self._done = self._before = done
        self._start = self._last = time.monotonic()

    def advance(self, images: int, note: str = "") -> None:
        """Adds `images` to those done; `note` is a few words on how it goes."""
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
