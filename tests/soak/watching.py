"""Where a command is, from what it writes to stderr, and waiting for the moment of a fault."""

import re
import time
from pathlib import Path

from tests.interpreters import Process

_POLL_SECONDS = 0.01
_LINE = re.compile(r"(\w+) (started|done|cached)\b")


def started(process: Process, log: Path, begin: int, component: str) -> bool:
    """Waits until a run starts a component.

    Args:
        process: The process of the run.
        log: The file with its stderr.
        begin: The size of the file before the process wrote to it.
        component: The name of the component.

    Returns:
        False if the process ended before.
    """
    while f"{component} started" not in _written(log, begin):
        if process.poll() is not None:
            return f"{component} started" in _written(log, begin)
        time.sleep(_POLL_SECONDS)
    return True


def wait(process: Process, seconds: float) -> None:
    """Waits for a random moment, or for the end of the process."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)


def _written(log: Path, begin: int) -> str:
    return log.read_bytes()[begin:].decode(errors="replace")


def place(log: Path, begin: int) -> str:
    """Says where a run was when it was killed: inside of a component or between two."""
    lines = _LINE.findall(_written(log, begin))
    if not lines:
        return "before its first component"
    component, event = lines[-1]
    return f"inside {component}" if event == "started" else f"after {component}"
