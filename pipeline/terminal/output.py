"""The output of a command: its result as JSON, and the messages of TensorFlow, TFX and Beam in a log file."""

import dataclasses
import io
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def print_json(value: Any) -> None:
    """Prints a value as one line of JSON: models and dataclasses as objects, times in ISO 8601, paths as strings."""
    print(json.dumps(value, default=_json_value))


def print_left_out(left_out: Mapping[str, int], listing: str) -> None:
    """Prints how many files of a source were left out and why; nothing if there are none.

    Args:
        left_out: Number of files by reason.
        listing: The file that lists them.
    """
    if not left_out:
        return
    print(f"Left out {sum(left_out.values()):,} files, which {listing} lists:")
    for reason, count in left_out.items():
        print(f"{count:>8,}  {reason}")


def _json_value(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON.")


@contextmanager
def captured(log: Path = Path(os.devnull)) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """Redirects everything that this process writes to stdout and stderr, including C++ code, into a log file.

    Args:
        log: The file to append to. It and its folder are created if they are missing. By default, the output is
            discarded.

    Yields:
        Streams that write to the original stdout and stderr.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    originals = [os.dup(descriptor) for descriptor in (1, 2)]
    streams = [open(descriptor, "w", encoding="utf-8", closefd=False) for descriptor in originals]
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
        # If the disk is full, flushing fails too; that error must not replace the original one.
        with suppress(OSError):
            sys.stdout.flush()
        with suppress(OSError):
            sys.stderr.flush()
        for stream, original, descriptor in zip(streams, originals, (1, 2), strict=True):
            stream.flush()
            os.dup2(original, descriptor)
            os.close(original)
