"""One tick of a schedule on this machine: `nnclr run` in a process of its own, until it comes to an end."""

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.model_registry.pipeline_runs import FAILED
from pipeline.local.workdir import Workdir
from trainer.errors import FAILED as FAILED_CODE
from trainer.errors import Stopped

STOPPED = "stopped"
# How `nnclr run` begins the sentence that says why it failed.
_REASONS = ("Error:", "Failed:")
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Ticked:
    """What a tick came to.

    Attributes:
        exit_code: of the last try, as `nnclr run` ends; negative if a signal ended it.
        outcome: see `pipeline_runs.PipelineRun`; `stopped` if it goes on later.
        detail: in a sentence.
        tries: processes that it took.
        summary: what `nnclr run --json` printed, if it came to an end.
    """

    exit_code: int
    outcome: str
    detail: str
    tries: int
    summary: dict[str, Any] | None = None

    @property
    def broke_off(self) -> bool:
        """Whether another try may go well: it was killed, ran out of memory, or a server did not answer."""
        return self.exit_code == FAILED_CODE or self.exit_code < 0

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop, and its state is saved."""
        return self.exit_code == Stopped.exit_code


class Runner:
    """Runs ticks, one after the other.

    A run writes to files, not to this process: it must outlive it.

    Args:
        arguments: of `nnclr run`.
        workdir: of the runs.
        retries: how often a run that broke off is started again.
        pause_seconds: before the first retry; doubled before each further one.
        on_start: told each process as it starts.
    """

    def __init__(
        self,
        arguments: list[str],
        workdir: Workdir,
        retries: int = 2,
        pause_seconds: float = 30.0,
        on_start: Callable[[subprocess.Popen], None] = lambda process: None,
    ):
        # Options that come later win: only_new=false may be among them.
        self._command = [*(sys.executable, "-m", "pipeline", "run", "--set", "data.only_new=true"), *arguments]
        self._command += ["--workdir", str(workdir.root), "--json"]
        self._workdir, self._retries, self._pause = workdir, retries, pause_seconds
        self._on_start = on_start
        self._process: subprocess.Popen | None = None
        self._stop = threading.Event()

    def stop(self) -> None:
        """Asks the running process to stop, and no further one to start."""
        self._stop.set()
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def tick(self) -> Ticked:
        """Runs the pipeline once; a run that broke off is started again, and goes on where it was."""
        result = self._try(1)
        while result.tries <= self._retries and result.broke_off:
            if self._stop.wait(self._pause * 2 ** (result.tries - 1)):
                break
            result = self._try(result.tries + 1)
        if self._stop.is_set() and result.broke_off:
            # Before it could save anything, or before it was tried again.
            return replace(result, exit_code=Stopped.exit_code, outcome=STOPPED)
        return result

    def _try(self, number: int) -> Ticked:
        self._workdir.root.mkdir(parents=True, exist_ok=True)
        with open(self._workdir.schedule_log, "ab") as log, tempfile.TemporaryFile("w+") as output:
            start = log.tell()
            # In a session of its own: a terminal's Ctrl-C reaches this process alone, which passes it on once.
            self._process = process = subprocess.Popen(self._command, stdout=output, stderr=log, start_new_session=True)
            # It may have been asked to stop just before.
            if self._stop.is_set():
                self.stop()
            self._on_start(process)
            told = _followed(self._workdir.schedule_log, start, process)
            output.seek(0)
            return _judged(process.returncode, output.read(), told, number)


def _followed(log: Path, start: int, process: subprocess.Popen) -> list[str]:
    """Passes on what a process writes into its log, until it ends; returns the lines."""
    told = ""
    with open(log, encoding="utf-8", errors="replace") as file:
        file.seek(start)
        while True:
            ended = process.poll() is not None
            # It may end in the middle of a line.
            text = file.read()
            told += text
            sys.stderr.write(text)
            sys.stderr.flush()
            if ended:
                return told.splitlines()
            time.sleep(_LOOK_SECONDS)


def _judged(code: int, output: str, told: list[str], tries: int) -> Ticked:
    lines = output.strip().splitlines()
    if lines and lines[-1].startswith("{"):
        summary = json.loads(lines[-1])
        detail = summary.get("nothing_new") or " ".join(summary["evaluation"]["reasons"])
        return Ticked(code, summary["outcome"], detail, tries, summary)
    if code < 0:
        return Ticked(code, FAILED, f"Ended by {signal.Signals(-code).name}.", tries)
    problem = next((line for line in reversed(told) if line.startswith(_REASONS)), "")
    detail = problem.partition(":")[2].strip()
    result = Ticked(code, FAILED, detail or f"Exit code {code}.", tries)
    return Ticked(code, STOPPED, result.detail, tries) if result.stopped else result


def wait_until(moment: float, stop: threading.Event, every: float, beat: Callable[[], None]) -> None:
    """Waits for a time of day (seconds since the epoch), or for `stop`, and calls `beat` now and then.

    The clock is looked at again and again: a machine may sleep, and its time may be set.
    """
    while not stop.is_set() and (left := moment - time.time()) > 0:
        beat()
        stop.wait(min(left, every))
