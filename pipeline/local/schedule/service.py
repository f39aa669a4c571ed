"""The schedule of a machine without Kubernetes: a process that starts the pipeline at fixed times, once at a time."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pipeline import cron
from pipeline.local.schedule.tick import Runner, Ticked, wait_until
from pipeline.local.workdir import Busy, Workdir
from trainer import aside

HEARTBEAT_SECONDS = 15.0
# A process that has not written for so long is dead.
STALE_SECONDS = 120.0

WAITING, RUNNING, ENDED = "waiting", "running", "ended"


class Service:
    """Starts the pipeline whenever a cron expression says so.

    What it does stands in `schedule.json` in the working directory, which is written anew every few seconds: it is the
    health file, and tells the next process what this one left unfinished. Times that passed meanwhile, or during a
    long run, are not made up for.

    Args:
        expression: five fields, checked.
        zone: of its times.
        runner: of the pipeline.
        workdir: of the runs.
        on_crash: told when a run was killed for good, and could not leave a record itself.
        say: told in a sentence what happens.
    """

    def __init__(
        self,
        expression: str,
        zone: ZoneInfo,
        runner: Runner,
        workdir: Workdir,
        on_crash: Callable[[Ticked], None] = lambda result: None,
        say: Callable[[str], None] = print,
    ):
        self._expression, self._zone, self._runner, self._workdir = expression, zone, runner, workdir
        self._on_crash, self._say = on_crash, say
        self._stop = threading.Event()
        self._state: dict[str, Any] = {"cron": expression, "time_zone": str(zone), "pid": os.getpid()}
        self._writing = threading.Lock()

    def stop(self) -> None:
        """Ends `run`; a running pipeline saves its state first."""
        self._stop.set()
        self._runner.stop()

    def run(self, most: int | None = None) -> None:
        """Runs until it is stopped.

        Args:
            most: end after so many ticks.
        """
        with self._workdir.locked("schedule"):
            before = read(self._workdir)
            # Until the run is over; this process may be stopped before it comes to that.
            unfinished = before.get("state") == RUNNING or bool(before.get("unfinished"))
            self._write(state=WAITING, last=before.get("last"), unfinished=unfinished)
            ticks = 0
            if unfinished:
                self._say("The last run broke off: it goes on now.")
                self._tick()
                ticks += 1
            while not self._stop.is_set() and (most is None or ticks < most):
                moment = cron.following(self._expression, datetime.now(self._zone))
                self._say(f"Next run: {moment:%Y-%m-%d %H:%M %Z}.")
                self._write(state=WAITING, next=moment.isoformat())
                wait_until(moment.timestamp(), self._stop, HEARTBEAT_SECONDS, self._write)
                if not self._stop.is_set():
                    self._tick()
                    ticks += 1
            self._write(state=ENDED, next=None)

    def _tick(self) -> None:
        started = datetime.now(self._zone)
        self._say(f"Run started at {started:%Y-%m-%d %H:%M %Z}.")
        self._write(state=RUNNING, next=None, since=started.isoformat())
        over = threading.Event()
        beating = threading.Thread(target=self._beat_until, args=(over,), daemon=True)
        beating.start()
        try:
            result = self._undisturbed()
        finally:
            over.set()
            beating.join()
        if result is None:
            return
        self._say(in_a_line(result))
        last: dict[str, Any] = {"at": started.isoformat(), "outcome": result.outcome, "detail": result.detail}
        last |= {"exit_code": result.exit_code, "tries": result.tries}
        self._write(state=WAITING, last=last, unfinished=result.stopped)
        if result.exit_code < 0:
            try:
                self._on_crash(result)
            except Exception as error:
                self._say(f"This could not be recorded: {' '.join(str(error).split())}")

    def _undisturbed(self) -> Ticked | None:
        """A tick at a time when nobody else runs the pipeline here; None if it came to a stop before that."""
        while True:
            self._wait_for_others()
            if self._stop.is_set():
                return None
            result = self._runner.tick()
            # Somebody was faster.
            if result.exit_code != Busy.exit_code:
                return result

    def _wait_for_others(self) -> None:
        """A run that somebody started by hand, or that outlived the process before this one."""
        told = False
        while not self._stop.is_set() and self._workdir.is_locked():
            if not told:
                self._say(f"Another run is using {self._workdir.root}: waiting for its end.")
                told = True
            self._stop.wait(HEARTBEAT_SECONDS)

    def _beat_until(self, over: threading.Event) -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            self._write()

    def _write(self, **changes: Any) -> None:
        with self._writing:
            self._state |= changes
            path = self._workdir.schedule
            unfinished = Path(aside.beside(str(path)))
            try:
                with open(unfinished, "w") as file:
                    json.dump(self._state, file, indent=2)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.replace(path)
            except OSError as error:
                # A full disk is no reason to give the schedule up.
                self._say(f"{path} cannot be written: {error}.")


def in_a_line(result: Ticked) -> str:
    """What a tick came to."""
    tries = f" after {result.tries} tries" if result.tries > 1 else ""
    return f"Run ended{tries}: {result.outcome} (exit code {result.exit_code}). {result.detail}".rstrip()


def read(workdir: Workdir) -> dict[str, Any]:
    """What `schedule.json` says; empty if there is none."""
    try:
        return json.loads(workdir.schedule.read_text())
    except FileNotFoundError:
        return {}
    except json.JSONDecodeError:
        # Damaged; what is done already costs little to be done again.
        return {"state": ENDED, "unfinished": True}


def age_seconds(path: Path) -> float:
    """How long ago a file was written."""
    return time.time() - path.stat().st_mtime


def handle_signals(service: Service) -> None:
    """SIGTERM, Ctrl-C and a closed terminal stop the service in order.

    A signal that this process was started to ignore stays ignored: nohup does so with that of a closed terminal.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: service.stop())
