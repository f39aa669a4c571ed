"""Runs of the pipeline that MLflow shows while they go on."""

import os
import shutil
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from components.model_registry import ModelRegistry, live_run
from components.model_registry.live_run import LiveRun
from components.model_registry.pipeline_runs import PipelineRun, PipelineRuns
from tests import mlflow_server

LOST = "MLflow does not answer for so long that metrics of the training are lost there."
MONDAY = PipelineRun("monday", "running", source="/images", data="f00d", settings_fingerprint="r3c1")


def row(step: int) -> dict[str, float]:
    return {"step": step, "epoch": 1, "c_loss": 5.0 / step, "rank_me": 3.0}


@pytest.fixture
def registry(empty_registry, tmp_path, monkeypatch) -> ModelRegistry:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(empty_registry, tmp_path / "registry")
    return ModelRegistry(str(tmp_path / "registry"))


def steps(registry: ModelRegistry, run_id: str, metric: str = "c_loss") -> list[int]:
    return [found.step for found in registry.connection.client.get_metric_history(run_id, metric)]


def test_a_run_is_one_record_from_its_start_to_its_result(registry):
    runs = PipelineRuns(registry, "encoder")
    started = runs.start(MONDAY, "here")
    assert [(run.run, run.outcome) for run in runs.newest()] == [("monday", "running")]
    assert runs.unfinished("here").run == "monday"
    # It has no result that would keep a schedule from training.
    assert runs.settled("f00d", "r3c1", None) is None
    runs.record(PipelineRun("monday", "not blessed", "why", "/images", "f00d", "r3c1", probe_accuracy=0.5))
    (found,) = runs.newest()
    assert runs.unfinished("here") is None
    assert (found.outcome, found.detail, found.probe_accuracy) == ("not blessed", "why", 0.5)
    stored = registry.connection.client.get_run(started)
    assert (stored.info.status, "unfinished_in" in stored.data.tags) == ("FINISHED", False)
    assert runs.settled("f00d", "r3c1", None).run == "monday"


def test_an_interrupted_run_goes_on_in_its_record_and_others_are_marked_as_stopped(registry):
    runs = PipelineRuns(registry, "encoder")
    stopped = runs.start(MONDAY, "here")
    runs.stop(stopped)
    assert (runs.unfinished("here").run, runs.unfinished("there")) == ("monday", None)
    assert [run.outcome for run in runs.newest()] == ["stopped"]
    elsewhere = runs.start(
        PipelineRun("elsewhere", "running", "/images", data="f00d", settings_fingerprint="r3c1"), "there"
    )
    again = runs.start(
        PipelineRun("tuesday", "running", source="/images", data="f00d", settings_fingerprint="r3c1"), "here"
    )
    assert (again, elsewhere != stopped) == (stopped, True)
    # This one is killed. The next one has other settings.
    runs.start(PipelineRun("wednesday", "running", source="/images", data="f00d", settings_fingerprint="0ther"), "here")
    assert {run.run: run.outcome for run in runs.newest()} == {
        **{"tuesday": "stopped", "wednesday": "running", "elsewhere": "running"}
    }


def test_settings_curves_load_and_report_arrive_while_the_run_goes_on(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(live_run, "_SHORT_PAUSE", 0.05)
    run_id = PipelineRuns(registry, "encoder").start(MONDAY, "here")
    settings = {f"trainer.setting{number}": number for number in range(150)}
    live = LiveRun(registry.connection.client, run_id, settings)
    live(row(10))
    deadline = time.monotonic() + 60
    while not steps(registry, run_id):
        assert time.monotonic() < deadline
    live(row(20))
    report = tmp_path / "report.html"
    report.write_text("report")
    live.close(report)
    stored = registry.connection.client.get_run(run_id)
    assert len(stored.data.params) == 150
    assert steps(registry, run_id) == [10, 20]
    # Measured at least at the first look into the queue after the start; its step is the age of the run.
    load = steps(registry, run_id, "system/cpu_utilization_percentage")
    assert len(load) >= 1
    assert load == sorted(set(load))
    assert [file.path for file in registry.connection.client.list_artifacts(run_id)] == ["report.html"]


def test_a_resumed_run_doubles_no_metrics_and_fills_in_what_is_missing(registry):
    run_id = PipelineRuns(registry, "encoder").start(MONDAY, "here")
    first = LiveRun(registry.connection.client, run_id, {"devices": "gpu"})
    for step in (10, 30):
        first(row(step))
    first.close()
    # MLflow refuses another value of a parameter.
    second = LiveRun(registry.connection.client, run_id, {"devices": "cpu", "epochs": 3})
    for step in (10, 20, 30, 40):
        second(row(step))
    second.close()
    assert sorted(steps(registry, run_id)) == [10, 20, 30, 40]
    assert registry.connection.client.get_run(run_id).data.params == {"devices": "gpu", "epochs": "3"}


def test_a_server_that_never_answers_delays_nothing(monkeypatch, caplog):
    monkeypatch.setattr(live_run, "_MOST_ROWS", 20)
    monkeypatch.setattr(live_run, "_LAST_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        live = LiveRun(MlflowClient(f"http://127.0.0.1:{silent.getsockname()[1]}"), "c0ffee", {"epochs": 3})
        require_no_delay(live)
    assert warnings(caplog) == [f"{LOST} The run goes on."]


@pytest.mark.long
def test_a_server_that_is_killed_delays_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(live_run, "_MOST_ROWS", 20)
    monkeypatch.setattr(live_run, "_LAST_SECONDS", 0.5)
    with mlflow_server.running(tmp_path) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        registry = ModelRegistry("")
        run_id = PipelineRuns(registry, "encoder").start(MONDAY, "here")
        live = LiveRun(registry.connection.client, run_id, {})
        live(row(1))
        deadline = time.monotonic() + 60
        while not steps(registry, run_id):
            assert time.monotonic() < deadline
        os.killpg(os.getpgid(listening(address)), signal.SIGKILL)
        require_no_delay(live)
    assert warnings(caplog) == [f"{LOST} The run goes on."]


def require_no_delay(live: LiveRun) -> None:
    """Demands that neither the training nor the end of the run waits for the server."""
    start = time.monotonic()
    for step in range(2, 100):
        live(row(step))
    assert time.monotonic() - start < 0.5
    live.close(Path("report.html"))
    assert time.monotonic() - start < 3


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "nnclr.progress"]


def listening(address: str) -> int:
    """Returns the id of the process that listens at an address."""
    (pid,) = {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and address.endswith(f":{connection.laddr.port}")
    }
    return pid
