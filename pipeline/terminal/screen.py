"""The progress display of a run: one line per component, and progress bars for long tasks."""

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from pipeline.terminal import process
from trainer import progress

_PLAIN_INTERVAL_SECONDS = 10.0


def write_line(console: Console, text: str) -> None:
    """Writes a line of Rich markup; it is wrapped on a terminal, and kept in one piece for programs and files."""
    console.print(text, highlight=False, soft_wrap=not console.is_terminal)


class LastingConsole(Console):
    """A console on stdout or stderr that outlives its reader: further output is discarded, and the work goes on.

    Rich would end the process. In a pod, the launcher of Kubeflow Pipelines reads the output; on SIGTERM it ends at
    once, while the Trainer has yet to save a checkpoint.
    """

    def on_broken_pipe(self) -> None:
        """Is called by Rich when a line could not be written."""
        process.discard_output()


class _Percentage(ProgressColumn):
    def render(self, task) -> Text:
        return Text("" if task.total is None else f"{task.percentage:3.0f} %")


class _Rate(ProgressColumn):
    def render(self, task) -> Text:
        rate = task.fields.get("rate")
        return Text(f"{rate:,.0f} images/s" if rate else "")


class Screen(logging.Handler):
    """Shows progress: as bars on a terminal, and as a line every ten seconds elsewhere.

    It is also the log handler that receives progress reports (see `trainer.progress`).

    Args:
        console: The console to write to.
    """

    def __init__(self, console: Console):
        super().__init__()
        self._console = console
        self._bars = Progress(
            TextColumn("    {task.description}"),
            BarColumn(bar_width=30),
            _Percentage(),
            _Rate(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            # pipeline.terminal.output sends what libraries print to the log.
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._last_line_at = 0.0

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
        """Writes a permanent line."""
        write_line(self._console, text)

    def waiting(self, what: str) -> None:
        """Shows a task of unknown length until the next line or bar.

        Args:
            what: The name of the task.
        """
        if self._console.is_terminal:
            self._clear()
            self._tasks[what] = self._bars.add_task(what, total=None, note="")
        else:
            self.say(f"{what} ...")

    def started(self, component: str) -> None:
        """Shows that a component has started."""
        self._clear()
        self.say(f"  [bold]{component}[/] started")

    def ended(self, component: str, state: str, seconds: float) -> None:
        """Shows that a component has ended.

        Args:
            component: The name of the component.
            state: `done`, `cached` or `failed`, as in the summary of the run.
            seconds: The duration of the component in seconds.
        """
        self._clear()
        style = {"cached": "dim", "failed": "red"}.get(state, "green")
        duration = "" if state == "cached" else f" in {seconds:.1f} s"
        self.say(f"  [bold]{component}[/] [{style}]{state}[/]{duration}")

    def emit(self, record: logging.LogRecord) -> None:
        """Shows a progress report, or the message of any other log record."""
        state: progress.Progress | None = getattr(record, "progress", None)
        if state is None:
            self.say(f"    {record.getMessage()}")
            return
        if not self._console.is_terminal:
            now = time.monotonic()
            if now - self._last_line_at >= _PLAIN_INTERVAL_SECONDS:
                self._last_line_at = now
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
