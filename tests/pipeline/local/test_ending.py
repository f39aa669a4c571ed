"""What is told of the end of a run on this machine."""

import pytest

from components.data_gate.artifact import RefusedData
from pipeline import config
from pipeline.local import ending
from pipeline.local.summary import Summary
from pipeline.local.workdir import Workdir
from tests.pipeline.commands.sessions import session
from tests.pipeline.local.test_run import NOTIFY
from tests.pipeline.local.test_summary import FORMER
from tests.pipeline.test_notifications import SECRET, receiver
from trainer.errors import DataError, Stopped, UserError


@pytest.fixture
def settings():
    return config.load("sample", overrides=["data.source=/images"])


def test_a_run_that_was_stopped_has_no_result(settings):
    assert ending.failed("1", settings, KeyboardInterrupt()) is None
    assert ending.failed("1", settings, Stopped("Stopped.")) is None
    failed = ending.failed("1", settings, DataError("No\nimages."))
    assert (failed.outcome, failed.reason) == ("failed", "No images.")


def test_what_stopped_a_run_at_the_gate_is_an_anomaly(settings, tmp_path):
    failed = ending.failed("1", settings, RefusedData("The data failed validation: It is noise.", ("It is noise.",)))
    told = ending.notice(settings, Workdir(tmp_path), failed)
    assert (told.event, told.anomalies, told.source) == ("failed", ("It is noise.",), "/images")
    assert (told.log, told.report) == (f"{tmp_path}/runs/1/run.log", None)


def test_a_finished_run_is_told_with_its_figures_and_its_report(settings, tmp_path):
    workdir, finished = Workdir(tmp_path), Summary.model_validate(FORMER)
    folder = workdir.run(finished.run_id)
    folder.mkdir(parents=True)
    (folder / "report.html").touch()
    told = ending.notice(settings, workdir, finished)
    assert (told.event, told.pipeline, told.run_id) == ("released", "nnclr-sample", finished.run_id)
    assert (told.measure, told.accuracy, told.interval) == ("linear probe", 0.6, (0.5, 0.7))
    assert (told.version, told.report) == ("models:/encoder/3", str(folder / "report.html"))


def test_only_failures_that_may_pass_are_left_to_the_schedule():
    assert [ending.is_retried(error) for error in (RuntimeError(), UserError(), DataError())] == [True, True, False]


def test_a_process_that_was_killed_is_told_by_the_schedule(settings, tmp_path):
    told = ending.killed_notice(settings, Workdir(tmp_path), "Ended by SIGKILL.")
    assert told.text == (f"Pipeline nnclr-sample: the run failed. Ended by SIGKILL.\nLog: {tmp_path}/schedule.log")


def test_the_command_tells_of_a_mistake_that_no_retry_mends(tmp_path):
    with receiver() as chat:
        command = ["run", "--data", "gone", "--retried", *NOTIFY]
        (failed,) = session(tmp_path, command, variables={"CHAT": chat.address})
        ((_, _, told),) = chat.received
        (unset,) = session(tmp_path, command)
    assert (failed.code, unset.code) == (3, 2)
    assert (told["event"], told["reason"]) == ("failed", f"{tmp_path}/gone does not exist or is empty.")
    assert SECRET not in failed.err
    assert "All runs: nnclr-runs/runs/index.html" in failed.err
    # The run without an address does not begin.
    assert "the environment variable CHAT, which is not set" in unset.err
    assert len(list((tmp_path / "nnclr-runs" / "runs").glob("*/summary.json"))) == 1
