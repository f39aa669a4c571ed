"""Contenders that need a process of their own, and still take turns with others."""

import os
import subprocess
import sys
from collections.abc import Callable


class Worker:
    """A process that does its work once for each line it is given, and answers with a line.

    Args:
        command: starts it; its first line, `greeting`, says that it is ready.
        environment: on top of this process's.
    """

    def __init__(self, command: list[str], environment: dict[str, str] | None = None):
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | (environment or {})
        )
        assert self._process.stdin
        assert self._process.stdout
        self._questions, self._answers = self._process.stdin, self._process.stdout
        self.greeting = self._answers.readline().strip()

    def __call__(self) -> float:
        """Does the work once."""
        self._questions.write("go\n")
        self._questions.flush()
        return float(self._answers.readline())

    def close(self) -> None:
        """Ends the process."""
        self._questions.close()
        self._process.wait()


def serve(work: Callable[[], float]) -> None:
    """The other side of `Worker`, until its input ends."""
    print("ready", flush=True)
    for _ in sys.stdin:
        print(work(), flush=True)
