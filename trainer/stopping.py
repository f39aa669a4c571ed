"""Requests to stop, which take effect between two steps."""

import signal
import threading
from types import FrameType, TracebackType
from typing import NoReturn

from trainer.errors import Stopped


class StopRequest:
    """A context in which SIGTERM and the first SIGINT (Ctrl-C) only set `signal`. A second SIGINT interrupts at once.

    Python runs signal handlers only in the main thread. In other threads the context does nothing.

    Attributes:
        signal: Number of the last signal; None if none came.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def end(self, message: str) -> NoReturn:
        """Ends the work because of a request, which may also have come to another machine.

        Args:
            message: What was stopped, and how it goes on.

        Raises:
            KeyboardInterrupt: If the request is SIGINT.
            Stopped: If it is SIGTERM.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(message)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
