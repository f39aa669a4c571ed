"""What a person sees while a run goes on: a line a component, and bars for long work."""

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from trainer import progress

_PLAIN_EVERY_SECONDS = 10.0


def write_line(console: Console, text: str) -> None:
    """Writes marked-up text: broken between words on a terminal, and not at all elsewhere, where programs read it."""
    console.print(text, highlight=False, soft_wrap=not console.is_terminal)


class _Share(ProgressColumn):
    def render(self, task) -> Text:
        return Text("" if task.total is None else f"{task.percentage:3.0f} %")


class _Rate(ProgressColumn):
    def render(self, task) -> Text:
        rate = task.fields.get("rate")
        return Text(f"{rate:,.0f} images/s" if rate else "")


class Screen(logging.Handler):
    """Draws on a terminal; elsewhere writes a line now and then. Also the log handler that progress reports reach.

    Args:
        console: where to.
    """

    def __init__(self, console: Console):
        super().__init__()
        self._console = console
        self._bars = Progress(
            TextColumn("    {task.description}"),
            BarColumn(bar_width=30),
            _Share(),
            _Rate(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            # What others print belongs in the log, see pipeline.terminal.output.
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._last_line = 0.0

    def __enter__(self) -> "Screen":
        progress.logger.addHandler(self)
        progress.logger.setLevel(logging.INFO)
        progress.logger.propagate = False
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
        progress.logger.removeHandler(self)
        progress.logger.propagate = True

    def say(self, text: str) -> None:
        """Writes a line that stays."""
        write_line(self._console, text)

    def waiting(self, what: str) -> None:
        """Shows that something without a known end goes on, until the next line or bar."""
        if self._console.is_terminal:
            self._clear()
            self._tasks[what] = self._bars.add_task(what, total=None, note="")
        else:
            self.say(f"{what} ...")

    def started(self, component: str) -> None:
        """A component begins."""
        self._clear()
        self.say(f"  [bold]{component}[/] started")

    def ended(self, component: str, state: str, seconds: float) -> None:
        """A component is over; `state` as in the run's summary."""
        self._clear()
        style = {"cached": "dim", "failed": "red"}.get(state, "green")
        duration = "" if state == "cached" else f" in {seconds:.1f} s"
        self.say(f"  [bold]{component}[/] [{style}]{state}[/]{duration}")

    def emit(self, record: logging.LogRecord) -> None:
        """Draws a progress report."""
        state: progress.Progress | None = getattr(record, "progress", None)
        if state is None:
            self.say(f"    {record.getMessage()}")
            return
        if not self._console.is_terminal:
            now = time.monotonic()
            if now - self._last_line >= _PLAIN_EVERY_SECONDS:
                self._last_line = now
                self.say(f"    {record.getMessage()}")
            return
        if state.task not in self._tasks:
            self._clear()
            self._tasks[state.task] = self._bars.add_task(state.task, total=state.total, note="")
        self._bars.update(
            self._tasks[state.task],
            completed=state.done,
            total=state.total,
            rate=state.images_per_second,
            note=state.note,
        )

    def _clear(self) -> None:
        for task in self._tasks.values():
            self._bars.remove_task(task)
        self._tasks.clear()
