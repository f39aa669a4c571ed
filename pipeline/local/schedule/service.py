"""The process of a schedule, which starts the pipeline at fixed times, one run at a time."""

import os
import signal
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from pipeline import cron
from pipeline.local.schedule import state
from pipeline.local.schedule.tick import Runner, TickResult, wait_until
from pipeline.local.workdir import Busy, Workdir


class Service:
    """Starts the pipeline at the times of a cron expression.

    It writes its state to `schedule.json` in the working directory every few seconds. The file serves as health file,
    and tells the next process whether a run was interrupted. Times that pass during a long run, or while no process
    is running, are skipped.

    Args:
        expression: A valid cron expression of five fields.
        zone: The time zone of the cron expression.
        runner: The runner of the pipeline.
        workdir: The working directory of the runs.
        on_crash: Called with the result of a tick whose last process was killed and could not record the failure.
        say: Called with a sentence about each event.
    """

    def __init__(
        self,
        expression: str,
        zone: ZoneInfo,
        runner: Runner,
        workdir: Workdir,
        on_crash: Callable[[TickResult], None] = lambda result: None,
        say: Callable[[str], None] = print,
    ):
        self._expression, self._zone, self._runner, self._workdir = expression, zone, runner, workdir
        self._on_crash, self._say = on_crash, say
        self._stop = threading.Event()
        self._state = state.ScheduleState(cron=expression, time_zone=str(zone), pid=os.getpid())
        self._writing = threading.Lock()

    def stop(self) -> None:
        """Ends `run`; a running pipeline saves its state first."""
        self._stop.set()
        self._runner.stop()

    def run(self, most: int | None = None) -> None:
        """Runs the schedule until `stop` is called.

        Args:
            most: The number of ticks after which it ends; by default it does not end.
        """
        with self._workdir.locked("schedule"):
            previous = state.read(self._workdir) or state.ScheduleState()
            unfinished = previous.state == state.RUNNING or previous.unfinished
            # Written before the run is resumed, because this process may be stopped before it gets to that.
            self._write(state=state.WAITING, last=previous.last, unfinished=unfinished)
            ticks = 0
            if unfinished:
                self._say("The last run was interrupted: resuming it now.")
                self._tick()
                ticks += 1
            while not self._stop.is_set() and (most is None or ticks < most):
                next_time = cron.next_time(self._expression, datetime.now(self._zone))
                self._say(f"Next run: {next_time:%Y-%m-%d %H:%M %Z}.")
                self._write(state=state.WAITING, next=next_time.isoformat())
                wait_until(next_time.timestamp(), self._stop, state.HEARTBEAT_SECONDS, self._write)
                if not self._stop.is_set():
                    self._tick()
                    ticks += 1
            self._write(state=state.ENDED, next=None)

    def _tick(self) -> None:
        started = datetime.now(self._zone)
        self._say(f"Run started at {started:%Y-%m-%d %H:%M %Z}.")
        self._write(state=state.RUNNING, next=None, since=started.isoformat())
        done = threading.Event()
        heartbeat = threading.Thread(target=self._write_until, args=(done,), daemon=True)
        heartbeat.start()
        try:
            result = self._run_exclusively()
        finally:
            done.set()
            heartbeat.join()
        if result is None:
            return
        self._say(in_words(result))
        last = state.LastRun(
            at=started.isoformat(),
            outcome=result.outcome,
            detail=result.detail,
            exit_code=result.exit_code,
            tries=result.tries,
        )
        self._write(state=state.WAITING, last=last, unfinished=result.stopped)
        if result.exit_code < 0:
            try:
                self._on_crash(result)
            except Exception as error:
                self._say(f"The failure could not be recorded: {' '.join(str(error).split())}")

    def _run_exclusively(self) -> TickResult | None:
        """Runs a tick while no other run uses the working directory; returns None if stopped before that."""
        while True:
            self._wait_for_other_runs()
            if self._stop.is_set():
                return None
            result = self._runner.tick()
            # If another run locked the working directory after the wait, wait again.
            if result.exit_code != Busy.exit_code:
                return result

    def _wait_for_other_runs(self) -> None:
        """Waits for a run that a user started, or that outlived an earlier process of the schedule."""
        announced = False
        while not self._stop.is_set() and self._workdir.is_locked():
            if not announced:
                self._say(f"Another run is using {self._workdir.root}: waiting for its end.")
                announced = True
            self._stop.wait(state.HEARTBEAT_SECONDS)

    def _write_until(self, done: threading.Event) -> None:
        while not done.wait(state.HEARTBEAT_SECONDS):
            self._write()

    def _write(self, **changes: Any) -> None:
        with self._writing:
            self._state = self._state.model_copy(update=changes)
            try:
                state.write(self._workdir, self._state)
            except OSError as error:
                # The schedule continues even if the disk is full.
                self._say(f"{self._workdir.schedule} cannot be written: {error}.")


def in_words(result: TickResult) -> str:
    """Describes the result of a tick in a sentence."""
    tries = f" after {result.tries} tries" if result.tries > 1 else ""
    return f"Run ended{tries}: {result.outcome} (exit code {result.exit_code}). {result.detail}".rstrip()


def handle_signals(service: Service) -> None:
    """Makes SIGTERM, Ctrl-C and a closed terminal stop the service in an orderly way.

    Signals that this process was started to ignore remain ignored, as that of a closed terminal under nohup.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: service.stop())
