"""One tick of a schedule: `nnclr run` in a separate process, with retries."""

import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from components.model_registry.pipeline_runs import FAILED
from pipeline.local.summary import Summary
from pipeline.local.workdir import Workdir
from trainer.errors import FAILED as FAILED_CODE
from trainer.errors import Stopped

STOPPED = "stopped"
# The prefixes of the sentence in which `nnclr run` says why it failed.
_ERROR_PREFIXES = ("Error:", "Failed:")
_POLL_SECONDS = 0.2
_LARGEST_LOG_BYTES = 10 << 20


@dataclass(frozen=True)
class TickResult:
    """The result of a tick.

    Attributes:
        exit_code: The exit code of the last process; the negative number of the signal if a signal ended it.
        outcome: One of the outcomes of `pipeline_runs.PipelineRun`, or `stopped` if the run is to be resumed.
        detail: The reason for the outcome, in a sentence.
        tries: The number of processes that were started.
        summary: The output of `nnclr run --json`, if the run completed.
    """

    exit_code: int
    outcome: str
    detail: str
    tries: int
    summary: Summary | None = None

    @property
    def retryable(self) -> bool:
        """Whether another try may succeed, because a process was killed, memory ran out or a server was down."""
        return self.exit_code == FAILED_CODE or self.exit_code < 0

    @property
    def stopped(self) -> bool:
        """Whether the run was stopped on request and is to be resumed."""
        return self.exit_code == Stopped.exit_code


class Runner:
    """Runs ticks, one after the other.

    The processes write their output to files instead of pipes, so that they can outlive this process.

    Args:
        arguments: Arguments for `nnclr run`.
        workdir: The working directory of the runs.
        retries: How often an interrupted run is started again.
        pause_seconds: Seconds before the first retry; doubled before each further retry.
        on_start: Called with each process after its start.
    """

    def __init__(
        self,
        arguments: list[str],
        workdir: Workdir,
        retries: int = 2,
        pause_seconds: float = 30.0,
        on_start: Callable[[subprocess.Popen], None] = lambda process: None,
    ):
        # Later options win, so that the arguments can set only_new=false.
        self._command = [*(sys.executable, "-m", "pipeline", "run", "--set", "data.only_new=true"), *arguments]
        self._command += ["--workdir", str(workdir.root), "--json"]
        self._workdir, self._retries, self._pause = workdir, retries, pause_seconds
        self._on_start = on_start
        self._process: subprocess.Popen | None = None
        self._stop = threading.Event()

    def stop(self) -> None:
        """Asks the running process to stop, and starts no further process."""
        self._stop.set()
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def tick(self) -> TickResult:
        """Runs the pipeline once. An interrupted run is started again and resumes where it was."""
        result = self._try(1)
        while result.tries <= self._retries and result.retryable:
            if self._stop.wait(self._pause * 2 ** (result.tries - 1)):
                break
            result = self._try(result.tries + 1)
        if self._stop.is_set() and result.retryable:
            # The stop came before the process could handle it, or before the next try.
            return replace(result, exit_code=Stopped.exit_code, outcome=STOPPED)
        return result

    def _try(self, number: int) -> TickResult:
        self._workdir.root.mkdir(parents=True, exist_ok=True)
        _set_aside_large(self._workdir.schedule_log)
        with open(self._workdir.schedule_log, "ab") as log, tempfile.TemporaryFile("w+") as output:
            start = log.tell()
            # In its own session, the process does not receive Ctrl-C from the terminal in addition to our SIGTERM.
            # The last try tells of its failure.
            command = [*self._command, *(["--retried"] if number <= self._retries else [])]
            self._process = process = subprocess.Popen(command, stdout=output, stderr=log, start_new_session=True)
            # `stop` may have been called just before the process existed.
            if self._stop.is_set():
                self.stop()
            self._on_start(process)
            log_lines = _relay_log(self._workdir.schedule_log, start, process)
            output.seek(0)
            return _tick_result(process.returncode, output.read(), log_lines, number)


def _set_aside_large(log: Path) -> None:
    """Renames a log that has become large to `NAME.1`, in place of the log that was renamed before."""
    if log.exists() and log.stat().st_size > _LARGEST_LOG_BYTES:
        log.replace(f"{log}.1")


def _relay_log(log: Path, start: int, process: subprocess.Popen) -> list[str]:
    """Copies what a process appends to its log to stderr until the process ends.

    Args:
        log: The path of the log.
        start: The size of the log in bytes at the start of the process.
        process: The process.

    Returns:
        The lines that were appended.
    """
    relayed = ""
    with open(log, encoding="utf-8", errors="replace") as file:
        file.seek(start)
        while True:
            ended = process.poll() is not None
            # Not read line by line: the last line may be incomplete.
            text = file.read()
            relayed += text
            sys.stderr.write(text)
            sys.stderr.flush()
            if ended:
                return relayed.splitlines()
            time.sleep(_POLL_SECONDS)


def _tick_result(code: int, output: str, log_lines: list[str], tries: int) -> TickResult:
    """Determines the result of a tick from the exit code, the stdout and the log lines of its last process."""
    lines = output.strip().splitlines()
    if lines and lines[-1].startswith("{"):
        summary = Summary.model_validate_json(lines[-1])
        return TickResult(code, summary.outcome, summary.reason, tries, summary)
    if code < 0:
        return TickResult(code, FAILED, f"Ended by {signal.Signals(-code).name}.", tries)
    problem = next((line for line in reversed(log_lines) if line.startswith(_ERROR_PREFIXES)), "")
    detail = problem.partition(":")[2].strip()
    result = TickResult(code, FAILED, detail or f"Exit code {code}.", tries)
    return TickResult(code, STOPPED, result.detail, tries) if result.stopped else result


def wait_until(end: float, stop: threading.Event, interval: float, on_interval: Callable[[], None]) -> None:
    """Waits until a time or until `stop` is set.

    It checks the clock at every interval, because the machine may sleep and its clock may be changed.

    Args:
        end: The time to wait for, in seconds since 1970.
        stop: The event that ends the wait early.
        interval: Seconds between two calls of `on_interval`.
        on_interval: Called regularly during the wait.
    """
    while not stop.is_set() and (left := end - time.time()) > 0:
        on_interval()
        stop.wait(min(left, interval))
