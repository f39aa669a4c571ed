"""Schedules on this machine: their ticks, their state and their simulation."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from components.image_example_gen.sources import span_window
from pipeline import cron
from pipeline.data import sample
from pipeline.local.schedule import simulation, state, tick
from pipeline.local.schedule.service import Service
from pipeline.local.schedule.tick import Runner, TickResult
from pipeline.local.workdir import Busy, Workdir
from tests import interpreters
from tests.pipeline.local.test_run import TINY
from trainer.errors import UserError

UTC = ZoneInfo("UTC")
RELEASED = TickResult(0, "released", "", 1)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def environment() -> dict[str, str]:
    return os.environ | {"COLUMNS": "200"}


def nnclr(*arguments: str | Path, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess:
    return interpreters.commands().run(
        "-m", "pipeline", *arguments, cwd=cwd, environment=environment(), timeout=timeout
    )


class Ticks:
    """A fake runner that returns the given results one after the other."""

    def __init__(self, *results: TickResult):
        self.results, self.stopped = list(results), False

    def tick(self) -> TickResult:
        return self.results.pop(0)

    def stop(self) -> None:
        self.stopped = True


@pytest.mark.soak
def test_weeks_of_retraining(tmp_path, monkeypatch):
    """Whatever data arrives, the champion never gets worse.

    Beyond `test_days_of_retraining`, encoders learn enough here for the gate to tell worse data from better data.
    """
    # The simulation ignores the user's registry server: nothing listens at this address.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = nnclr("schedule", "simulate", "--workdir", "weeks", "--json", cwd=tmp_path, timeout=1_200)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert done.returncode == 0, done.stderr[-5_000:]
    first, same, worse, corrupt, noise, mended, grown, crashed = json.loads(done.stdout)
    assert (first["outcome"], first["champion"], first["exit_code"]) == ("released", 1, 0)
    assert (same["outcome"], same["champion"]) == ("nothing new", 1)
    assert "2026-11-09 is not complete yet: it has no _SUCCESS" in done.stderr
    assert (worse["outcome"], worse["exit_code"], worse["champion"]) == ("not blessed", 4, 1)
    assert worse["probe_accuracy"] < first["probe_accuracy"] < crashed["probe_accuracy"]
    assert (corrupt["outcome"], corrupt["exit_code"], corrupt["champion"]) == ("failed", 3, 1)
    assert "2026-11-23: unlabeled_X.bin has" in corrupt["detail"]
    assert (noise["outcome"], noise["exit_code"], noise["champion"]) == ("failed", 3, 1)
    assert "of split unlabelled are noise" in noise["detail"]
    assert (mended["outcome"], mended["champion"]) == ("nothing new", 1)
    assert (grown["outcome"], grown["champion"]) == ("released", 2)
    # The killed run resumed from its checkpoint, and ingest was not repeated.
    assert (crashed["outcome"], crashed["tries"], crashed["champion"]) == ("released", 2, 3)
    logs = [path.read_text() for path in sorted((tmp_path / "weeks" / "runs").glob("*/run.log"))]
    assert "Going on from" in logs[-1]
    assert "ImageExampleGen cached" in done.stderr
    # All runs except the first started from the champion's weights.
    scratch = ["There is no champion to start from yet" in log for log in logs if "Trainer" in log]
    assert (scratch[0], any(scratch[1:])) == (True, False)

    listed = nnclr("models", "runs", "--workdir", "weeks", "--json", cwd=tmp_path)
    runs = json.loads(listed.stdout)
    assert [(run["outcome"], run["version"]) for run in reversed(runs)] == [
        ("released", 1),
        ("nothing new", 1),
        ("not blessed", None),
        ("failed", None),
        ("failed", None),
        ("nothing new", 1),
        ("released", 2),
        ("released", 3),
    ]
    # All weeks are used together.
    assert [Path(path).name for path in span_window.paths(runs[0]["source"])] == [
        "2026-11-02",
        "2026-12-14",
        "2026-12-21",
    ]
    table = nnclr("models", "runs", "--workdir", "weeks", cwd=tmp_path).stdout
    assert "not blessed" in table
    assert "2026-11-02 to 2026-12-21 (3)" in table
    twice = nnclr("schedule", "simulate", "--workdir", "weeks", cwd=tmp_path)
    assert twice.returncode == 3
    assert "weeks already exists" in twice.stderr


@pytest.mark.long
def test_days_of_retraining(tmp_path, monkeypatch):
    """The simulation with little data and little training, after which any encoder is as good as the champion."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tick, "subprocess", SimpleNamespace(Popen=interpreters.popen))
    monkeypatch.setattr(simulation, "_COUNTS", {"unlabelled": 720, "train": 100, "test": 60})
    changed = ["name=nnclr-simulation", f"registry.model_name={simulation.MODEL}", "trainer.warm_start=champion"]
    changed += ["data.spans=all", "evaluator.tolerance=1", "trainer.checkpoint.every=5 steps", "trainer.batch_size=16"]
    monkeypatch.setattr(simulation, "SETTINGS", [*TINY, *(part for each in changed for part in ("--set", each))])
    first, unchanged, _, corrupt, _, mended, _, crashed = simulation.scenarios()
    chosen = [first, unchanged, corrupt, mended, replace(crashed, champion=2)]
    monkeypatch.setattr(simulation, "scenarios", lambda: chosen)
    told = []
    seen = list(simulation.simulate(Workdir(Path("weeks")), told.append))
    assert told == chosen
    assert [(tick.outcome, tick.exit_code, tick.champion) for tick in seen] == [
        ("released", 0, 1),
        ("nothing new", 0, 1),
        ("failed", 3, 1),
        ("nothing new", 0, 1),
        ("released", 0, 2),
    ]
    assert all(tick.as_expected for tick in seen)
    assert "2026-11-23: unlabeled_X.bin has" in seen[2].detail
    # Killed in the middle, it went on from where it was, and ingest was not repeated.
    assert seen[4].tries == 2
    log = (tmp_path / "weeks" / "schedule.log").read_text()
    assert "2026-11-09 is not complete yet: it has no _SUCCESS" in log
    assert "ImageExampleGen cached" in log
    logs = [path.read_text() for path in sorted((tmp_path / "weeks" / "runs").glob("*/run.log"))]
    assert "Going on from" in logs[-1]
    scratch = ["There is no champion to start from yet" in text for text in logs if "Trainer" in text]
    assert (scratch[0], any(scratch[1:])) == (True, False)
    listed = nnclr("models", "runs", "--workdir", "weeks", "--json", cwd=tmp_path)
    assert [(run["outcome"], run["version"]) for run in reversed(json.loads(listed.stdout))] == [
        ("released", 1),
        ("nothing new", 1),
        ("failed", None),
        ("nothing new", 1),
        ("released", 2),
    ]
    twice = nnclr("schedule", "simulate", "--workdir", "weeks", cwd=tmp_path)
    assert twice.returncode == 3
    assert "weeks already exists" in twice.stderr


@pytest.mark.long
def test_a_stopped_schedule_resumes_its_run_when_started_again(tmp_path):
    sample.write_sample(tmp_path / "days" / "1", counts={"unlabelled": 640, "train": 300, "test": 200})
    (tmp_path / "days" / "1" / "_SUCCESS").touch()
    command = [sys.executable, "-m", "pipeline", "schedule", "run", "--cron", "0 3 1 1 *", *TINY]
    command += ["--data", "days/{SPAN}", "--time-zone", "Europe/Berlin"]
    # Long enough to be stopped during the training.
    command += ["--set", "trainer.checkpoint.every=5 steps", "--set", "trainer.epochs=12"]
    workdir = Workdir(tmp_path / "nnclr-runs")
    # The state that a process leaves when it is killed during a run.
    workdir.root.mkdir()
    workdir.schedule.write_text(json.dumps({"state": "running"}))

    @contextmanager
    def start() -> Iterator[subprocess.Popen]:
        with subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def wait_for(condition) -> None:
        deadline = time.monotonic() + 300
        while not condition():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with start() as process:
        # Requested before the training starts, which takes less time than the command.
        wait_for(lambda: (state.read(workdir).pid, state.read(workdir).state) == (process.pid, state.RUNNING))
        alive = nnclr("schedule", "status", cwd=tmp_path)
        wait_for(lambda: list(workdir.checkpoints.glob("*/*.npz")))
        process.send_signal(signal.SIGTERM)
        messages = process.communicate(timeout=120)[1]
    assert process.returncode == 0, messages
    assert (alive.returncode, alive.stdout.partition(",")[0]) == (0, "alive: running")
    assert "At 03:00 on January 1, time zone Europe/Berlin" in messages
    assert "The last run was interrupted: resuming it now." in messages
    assert "Run ended: stopped (exit code 75)" in messages
    ended = state.read(workdir)
    assert (ended.state, ended.unfinished, ended.last.exit_code) == ("ended", True, 75)
    dead = nnclr("schedule", "status", cwd=tmp_path)
    assert (dead.returncode, dead.stdout.partition(",")[0]) == (1, "dead: ended")

    with start() as process:
        # It is also "waiting" for a moment before it resumes the run, but knows the time of the next run only after it.
        wait_for(lambda: state.read(workdir).next)
        process.send_signal(signal.SIGINT)
        messages = process.communicate(timeout=60)[1]
    assert process.returncode == 0, messages
    assert "Trainer done" in messages
    resumed = state.read(workdir)
    assert (resumed.last.outcome, resumed.unfinished) == ("released", False)
    assert re.search(r"Next run: \d{4}-01-01 03:00 CET", messages)


def test_a_run_that_is_killed_each_time_fails_after_its_retries(tmp_path):
    killed, retried = [], []

    def kill(process: subprocess.Popen) -> None:
        killed.append(process.pid)
        retried.append("--retried" in process.args)
        process.kill()

    result = Runner(["--preset", "sample"], Workdir(tmp_path / "runs"), 2, pause_seconds=0, on_start=kill).tick()
    assert (result.exit_code, result.outcome, result.detail) == (-9, "failed", "Ended by SIGKILL.")
    assert result.tries == len(set(killed)) == 3
    # Only the last try tells receivers of a failure.
    assert retried == [True, True, False]


def test_a_user_error_is_not_retried(tmp_path):
    result = Runner(["--data", str(tmp_path / "gone")], Workdir(tmp_path / "runs"), 2, pause_seconds=0).tick()
    assert (result.exit_code, result.outcome, result.tries) == (3, "failed", 1)
    assert result.detail == f"{tmp_path}/gone does not exist or is empty."


@pytest.mark.parametrize("moment", ["before it can save anything", "before it is retried"])
def test_a_stopped_run_is_to_be_resumed(tmp_path, moment):
    def end(process: subprocess.Popen) -> None:
        if moment == "before it is retried":
            process.kill()
            process.wait()
        # This comes during the pause before a retry, or before Python has started.
        runner.stop()

    runner = Runner(["--preset", "sample"], Workdir(tmp_path / "runs"), 2, pause_seconds=60, on_start=end)
    result = runner.tick()
    assert (result.outcome, result.stopped, result.tries) == ("stopped", True, 1)


def test_a_run_outlives_the_process_that_started_it(tmp_path):
    """A run writes to a file, which needs no reader."""
    started = []

    def look(process: subprocess.Popen) -> None:
        for descriptor in (1, 2):
            started.append(os.readlink(f"/proc/{process.pid}/fd/{descriptor}"))
        process.kill()

    Runner(["--preset", "sample"], Workdir(tmp_path), 0, on_start=look).tick()
    assert not [target for target in started if "pipe" in target]
    assert str(tmp_path / "schedule.log") in started


def test_a_log_that_has_become_large_is_set_aside_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tick, "_LARGEST_LOG_BYTES", 5)
    workdir = Workdir(tmp_path)
    for earlier in ("first run", "second run", "third"):
        workdir.schedule_log.write_text(earlier)
        Runner([], workdir, 0, on_start=lambda process: process.kill()).tick()
    assert workdir.schedule_log.read_text() == "third"
    assert (tmp_path / "schedule.log.1").read_text() == "second run"


def test_one_schedule_and_one_run_at_a_time(tmp_path):
    workdir, messages = Workdir(tmp_path), []
    workdir.schedule.write_text(json.dumps({"unfinished": True}))
    service = Service("0 3 * * *", UTC, Ticks(RELEASED), workdir, say=messages.append)
    with workdir.locked("schedule"), pytest.raises(Busy, match="Another schedule is using"):
        service.run()
    # A user runs the pipeline.
    with workdir.locked():
        thread = threading.Thread(target=service.run, kwargs={"most": 1})
        thread.start()
        while not any("waiting for its end" in sentence for sentence in messages):
            time.sleep(0.01)
        assert len(service._runner.results) == 1
        service.stop()
        thread.join()
    assert service._runner.stopped
    # The tick did not run, so it is still unfinished. A tick that finds the directory locked runs afterwards.
    again = Service(
        "0 3 * * *", UTC, Ticks(TickResult(8, "failed", "Busy.", 1), RELEASED), workdir, say=messages.append
    )
    again.run(most=1)
    assert messages[-1] == "Run ended: released (exit code 0)."
    assert (state.read(workdir).unfinished, state.read(workdir).state) == (False, "ended")


def test_a_run_that_is_killed_after_all_retries_is_recorded(tmp_path):
    workdir, crashes = Workdir(tmp_path), []
    # The state file is damaged, for example by a power failure: the last run is repeated.
    workdir.schedule.write_text('{"state": "run')
    killed = TickResult(-9, "failed", "Ended by SIGKILL.", 3)
    Service("0 3 * * *", UTC, Ticks(killed), workdir, crashes.append, say=lambda text: None).run(most=1)
    assert crashes == [killed]
    assert state.read(workdir).last.tries == 3

    def unreachable(result: TickResult) -> None:
        raise UserError("the MLflow server does not answer")

    messages = []
    workdir.schedule.write_text(json.dumps({"unfinished": True}))
    Service("0 3 * * *", UTC, Ticks(killed), workdir, unreachable, say=messages.append).run(most=1)
    assert messages[-1] == "The failure could not be recorded: the MLflow server does not answer"
    assert state.read(workdir).state == "ended"


def test_the_state_of_an_earlier_version_is_read(tmp_path):
    workdir = Workdir(tmp_path)
    assert state.read(workdir) is None
    last = {"at": "2026-11-02T03:00:00+01:00", "outcome": "released", "detail": "", "exit_code": 0, "tries": 1}
    earlier = {"cron": "0 3 * * 1", "time_zone": "Europe/Berlin", "pid": 7, "state": "waiting", "unfinished": False}
    workdir.schedule.write_text(json.dumps(earlier | {"last": last, "next": "2026-11-09T03:00:00+01:00"}))
    found = state.read(workdir)
    assert (found.state, found.last.outcome, found.since) == ("waiting", "released", None)
    state.write(workdir, found)
    assert json.loads(workdir.schedule.read_text()) == earlier | {"last": last, "next": found.next, "since": None}


@pytest.mark.parametrize(
    ("expression", "after", "following"),
    [
        ("0 3 * * 1", "2026-11-24T10:00", "2026-11-30T03:00+01:00"),
        # A time that summer time skips runs an hour later, and one that occurs twice runs once.
        ("30 2 * * *", "2027-03-28T00:00", "2027-03-28T03:00+02:00"),
        ("30 2 * * *", "2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"),
    ],
)
def test_cron_times_are_in_the_time_zone(expression, after, following):
    zone = ZoneInfo("Europe/Berlin")
    moment = datetime.fromisoformat(after)
    moment = moment.astimezone(zone) if moment.tzinfo else moment.replace(tzinfo=zone)
    assert cron.next_time(expression, moment) == datetime.fromisoformat(following)


def test_wrong_settings_are_reported_before_the_first_tick(tmp_path):
    for arguments, message in (
        (["--cron", "0 3 * *", "--data", "x"], "has 4 fields, not 5"),
        (["--cron", "0 3 * * 1", "--data", "x", "--set", "trainer.epoch=3"], "trainer.epoch"),
        (["--cron", "0 3 * * 1"], "The source of images is missing"),
        (["--cron", "0 3 * * 1", "--data", "x", "--time-zone", "Mars"], "'Mars' is unknown"),
    ):
        done = nnclr("schedule", "run", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr
    assert list(tmp_path.iterdir()) == []
    missing = nnclr("schedule", "status", cwd=tmp_path)
    assert missing.returncode == 2
    assert "no schedule was run in this working directory" in missing.stderr
