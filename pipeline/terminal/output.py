"""Keeps the chatter of TensorFlow, TFX and Beam off the screen."""

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def captured(log: Path) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """Sends all that this process writes to stdout and stderr, from C++ as well, into a file.

    Args:
        log: created with its folder, or appended to.

    Yields:
        Streams that still reach the real stdout and stderr.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    real = [os.dup(descriptor) for descriptor in (1, 2)]
    streams = [open(descriptor, "w", encoding="utf-8", closefd=False) for descriptor in real]
    with open(log, "ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield streams[0], streams[1]
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        # A full disk must not hide what happened.
        with suppress(OSError):
            sys.stdout.flush()
        with suppress(OSError):
            sys.stderr.flush()
        for stream, descriptor, target in zip(streams, real, (1, 2), strict=True):
            stream.flush()
            os.dup2(descriptor, target)
            os.close(descriptor)
