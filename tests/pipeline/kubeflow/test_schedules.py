"""Schedules on a host of Kubeflow Pipelines, through the real client and the real command."""

import json

import pytest

from pipeline import cron
from tests.pipeline.kubeflow.host import KubeflowHost, running
from tests.pipeline.kubeflow.test_runs import PACKAGE, nnclr
from trainer.errors import SettingsError


@pytest.fixture
def host():
    with running(KubeflowHost([])) as found:
        yield found


def test_created_listed_paused_resumed_deleted(host, tmp_path):
    source = "gs://bucket/images/{YYYY}-{MM}-{DD}"
    options = ("--cron", "0 3 * * 1", "--param", f"source={source}", "--param", "epochs=30")
    made = nnclr("schedule", "create", PACKAGE, "--host", host.url, *options, home=tmp_path)
    assert made.returncode == 0, made.stderr
    ((schedule_id, run),) = host.recurring_runs.items()
    assert "nnclr-sample: At 03:00 on Monday, in the time zone of the host (by default UTC)." in made.stdout
    assert f"Page: {host.url}/#/recurringrun/details/{schedule_id}" in made.stdout
    # Retraining must not overlap, must not catch up on every missed time, and must not repeat a training.
    assert run["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 1"
    assert (run["no_catchup"], int(run["max_concurrency"]), run["mode"]) == (True, 1, "ENABLE")
    assert run["runtime_config"]["parameters"] == {"source": source, "epochs": 30, "only_new": 1}
    assert run["runtime_config"]["pipeline_root"] == "gs://bucket/runs"
    assert run["experiment_id"] == host.experiments["nnclr-sample"]
    # A schedule without the id of a version would not be counted as running.
    (version_id,) = host.versions
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version_id
    assert run["description"] == "Compiled by nnclr 1, commit c0ffee."

    again = nnclr("schedule", "create", PACKAGE, "--host", host.url, *options, home=tmp_path)
    assert again.returncode == 2
    assert "The schedule nnclr-sample already exists" in again.stderr
    for name in ("nightly", "hourly"):
        options = ("--cron", "30 2 * * sun", "--name", name, "--param", "only_new=0")
        assert nnclr("schedule", "create", PACKAGE, "--host", host.url, *options, home=tmp_path).returncode == 0
    assert [one["runtime_config"]["parameters"]["only_new"] for one in host.recurring_runs.values()] == [1, 0, 0]

    paused = nnclr("schedule", "pause", "nnclr-sample", "--host", host.url, home=tmp_path)
    assert (paused.returncode, paused.stdout) == (0, "nnclr-sample is paused.\n")
    listed = nnclr("schedule", "list", "--host", host.url, "--json", home=tmp_path)
    found = {one["name"]: (one["cron"], one["enabled"]) for one in json.loads(listed.stdout)}
    assert found == {
        "hourly": ("30 2 * * sun", True),
        "nightly": ("30 2 * * sun", True),
        "nnclr-sample": ("0 3 * * 1", False),
    }
    resumed = nnclr("schedule", "resume", schedule_id, "--host", host.url, home=tmp_path)
    assert resumed.stdout == "nnclr-sample is on.\n"
    assert host.recurring_runs[schedule_id]["status"] == "ENABLED"
    deleted = nnclr("schedule", "delete", "nnclr-sample", "--host", host.url, home=tmp_path)
    assert deleted.stdout == "nnclr-sample is deleted.\n"
    assert schedule_id not in host.recurring_runs
    missing = nnclr("schedule", "delete", "nnclr-sample", "--host", host.url, home=tmp_path)
    assert missing.returncode == 2
    assert "There is no schedule nnclr-sample. Existing schedules: hourly, nightly." in missing.stderr


def test_a_service_account_that_the_host_ignores_leaves_no_schedule(host, tmp_path):
    command = ("schedule", "create", PACKAGE, "--host", host.url, "--cron", "0 3 * * 1", "--service-account")
    host.ignores_service_accounts = True
    refused = nnclr(*command, "nnclr", home=tmp_path)
    assert refused.returncode == 1
    assert "would run the schedule with the service account pipeline-runner instead of nnclr" in refused.stderr
    assert not host.recurring_runs
    # The schedule runs with the account that it names.
    assert nnclr(*command, "pipeline-runner", home=tmp_path).returncode == 0
    host.ignores_service_accounts = False
    made = nnclr(*command, "nnclr", "--name", "another", home=tmp_path)
    assert made.returncode == 0, made.stderr
    assert [run["service_account"] for run in host.recurring_runs.values()] == ["pipeline-runner", "nnclr"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cron", "0 3 * *"), "has 4 fields, not 5"),
        (("--cron", "0 25 * * *"), "is invalid: Bad hour"),
        (("--cron", "0 3 * * 1#2"), "Kubeflow Pipelines supports neither L nor #"),
        (("--cron", "0 3 * * 1", "--param", "epoch=3"), "--param epoch: "),
    ],
)
def test_what_the_host_would_refuse_is_refused_before_it_is_asked(host, tmp_path, options, message):
    done = nnclr("schedule", "create", PACKAGE, "--host", host.url, *options, home=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert not host.experiments


@pytest.mark.parametrize(
    ("five", "six"),
    [
        ("0 3 * * 1", "0 0 3 * * 1"),
        (" */15  0-6 1,15 * * ", "0 */15 0-6 1,15 * *"),
        ("0 3 * * 5-7", "0 0 3 * * 0,5,6"),
        ("0 3 * jul 7", "0 0 3 * jul 0"),
        ("0 3 * * 1-7/2", "0 0 3 * * 0,1,3,5"),
        ("0 3 * * 07", "0 0 3 * * 0"),
        ("0 3 * * mon-fri", "0 0 3 * * mon-fri"),
    ],
)
def test_five_fields_become_six_that_mean_the_same(five, six):
    assert cron.to_kubeflow(five) == six
    if "7" not in five:
        assert cron.from_kubeflow(six) == " ".join(five.split())


def test_an_unknown_time_zone_is_reported():
    with pytest.raises(SettingsError, match=r"'Mars/Olympus' is unknown; a valid name is, for example, Europe/Berlin"):
        cron.time_zone("Mars/Olympus")
