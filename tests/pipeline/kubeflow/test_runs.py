"""Submitting to, and looking at, a host of Kubeflow Pipelines, through the real client and the real command."""

import hashlib
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.kubeflow.package import read_package
from tests import interpreters
from tests.pipeline.kubeflow.host import KubeflowHost, running

PACKAGE = Path(__file__).with_name("golden.yaml")
GOES_WELL = [
    ("PENDING", {}),
    ("RUNNING", {"root": "RUNNING", "ImageExampleGen-driver": "SUCCEEDED", "ImageExampleGen": "RUNNING"}),
    ("RUNNING", {"ImageExampleGen": "SUCCEEDED", "Trainer": "RUNNING"}),
    ("SUCCEEDED", {"ImageExampleGen": "SUCCEEDED", "Trainer": "SUCCEEDED"}),
]


def nnclr(*arguments: str | Path, home: Path) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KF_")}
    environment |= {"HOME": str(home), "COLUMNS": "200"}
    return interpreters.commands().run("-m", "pipeline", *arguments, cwd=home, environment=environment)


@pytest.fixture
def host():
    with running(KubeflowHost(list(GOES_WELL))) as found:
        yield found


def test_submitted_and_followed_to_its_end(host, tmp_path):
    options = ("--host", host.url, "--param", "epochs=3", "--param", "floor=0.4", "--service-account", "nnclr")
    done = nnclr("submit", PACKAGE, *options, "--wait", "--every", "0.1", "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    ((run_id, run),) = host.runs.items()
    assert run["runtime_config"]["parameters"] == {"epochs": 3, "floor": 0.4}
    # The host does not read the root in the package.
    assert run["runtime_config"]["pipeline_root"] == "gs://bucket/runs"
    assert run["service_account"] == "nnclr"
    assert run["description"] == "Compiled by nnclr 1, commit c0ffee."
    assert run["experiment_id"] == host.experiments["nnclr-sample"]
    ((version_id, version),) = host.versions.items()
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version_id
    # Also the platform's part, without which there would be no GPU node, and no Secret.
    assert version["text"] == PACKAGE.read_text()
    assert host.pipelines == {"nnclr-sample": version["pipeline_id"]}
    assert version["display_name"] == f"c0ffee-{hashlib.sha256(PACKAGE.read_bytes()).hexdigest()[:8]}"
    assert version["description"] == "Compiled by nnclr 1, commit c0ffee."
    messages = [line.strip() for line in done.stderr.splitlines()]
    assert messages == [
        f"Run {run_id} of version {version['display_name']}: {host.url}/#/runs/details/{run_id}",
        "ImageExampleGen running",
        "ImageExampleGen succeeded",
        "Trainer running",
        "Trainer succeeded",
    ]
    result = json.loads(done.stdout)
    assert (result["run_id"], result["state"]) == (run_id, "SUCCEEDED")

    listed = nnclr("runs", "--host", host.url, "--experiment", "nnclr-sample", "--json", home=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert [run["run_id"] for run in json.loads(listed.stdout)] == [run_id]


def test_the_same_package_is_uploaded_once_and_a_changed_one_is_another_version(host, tmp_path):
    changed = tmp_path / "changed.yaml"
    changed.write_text(PACKAGE.read_text() + "# changed\n")
    for package in (PACKAGE, PACKAGE, changed):
        done = nnclr("submit", package, "--host", host.url, home=tmp_path)
        assert done.returncode == 0, done.stderr
    assert len(host.pipelines) == 1
    first, second = (version["display_name"] for version in host.versions.values())
    assert first.rpartition("-")[0] == second.rpartition("-")[0] == "c0ffee"
    used = [run["pipeline_version_reference"]["pipeline_version_id"] for run in host.runs.values()]
    assert used == [list(host.versions)[i] for i in (0, 0, 1)]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ({"git_commit": "0123456789abcdef"}, "0123456789ab-beefbeef"),
        ({"git_commit": "0123456789abcdef+changes"}, "0123456789ab-changed-beefbeef"),
        ({"git_commit": "unknown"}, "1.2-beefbeef"),
    ],
)
def test_a_version_is_named_by_the_commit(code, name):
    package = replace(read_package(PACKAGE), digest="beefbeefcafe")
    assert replace(package, code=package.code.model_copy(update={"nnclr_version": "1.2"} | code)).version == name


@pytest.mark.parametrize(
    ("health", "supported"),
    [
        ({"tag_name": "2.13.0"}, False),
        # As the server of the web interface answers.
        ({"apiServerTagName": "2.5.0", "frontendTagName": "2.5.0"}, False),
        ({"tag_name": "v1.8.22"}, False),
        ({"tag_name": "2.14.0"}, True),
        ({"tag_name": "3.0.0-rc.1"}, True),
        ({"tag_name": "unknown"}, True),
        ({}, True),
    ],
)
def test_a_version_of_kubeflow_pipelines_that_is_too_old_gets_nothing(host, tmp_path, health, supported):
    host.health = {"multi_user": False} | health
    submitted = nnclr("submit", PACKAGE, "--host", host.url, home=tmp_path)
    options = ("--cron", "0 3 * * 1")
    scheduled = nnclr("schedule", "create", PACKAGE, "--host", host.url, *options, home=tmp_path)
    for done in (submitted, scheduled):
        assert done.returncode == (0 if supported else 1), done.stderr
        assert supported or "Upgrade it to 2.14 or newer." in done.stderr
    assert (len(host.versions), len(host.runs), len(host.recurring_runs)) == ((1, 1, 1) if supported else (0, 0, 0))


def test_a_run_that_fails_ends_with_1(host, tmp_path):
    host.states[2:] = [("FAILED", {"ImageExampleGen": "FAILED", "TrainAndRelease": "FAILED"})]
    done = nnclr("submit", PACKAGE, "--host", host.url, "--wait", "--every", "0.1", home=tmp_path)
    assert done.returncode == 1
    assert "ImageExampleGen failed" in done.stderr
    assert done.stdout.strip().endswith(": failed: ImageExampleGen")
    listed = nnclr("runs", "--host", host.url, home=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "failed: ImageExampleGen" in listed.stdout


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("epoch=3", "--param epoch: "),
        ("epochs=three", "--param epochs: 'three' is not of the type NUMBER_INTEGER"),
        ("epochs", "--param takes NAME=VALUE"),
        ("source=ftp://bucket/images", "--param source: the steps cannot read 'ftp://bucket/images'"),
        ("source=/images/1", "--param source: the steps cannot read '/images/1'"),
        ("registry_uri=http://ada:s3cret@mlflow", "--param registry_uri contains a user or a password"),
    ],
)
def test_what_the_host_would_refuse_is_refused_before_it_is_asked(host, tmp_path, parameter, message):
    done = nnclr("submit", PACKAGE, "--host", host.url, "--param", parameter, home=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "s3cret" not in done.stderr
    assert not host.experiments


def test_a_source_on_a_volume_of_the_package_or_in_a_bucket_is_submitted(host, tmp_path):
    options = ("--data", "/images/{SPAN}", "--set", "kubeflow.volumes={images: /images}", "-o", "volume.yaml")
    compiled = nnclr("compile", *options, home=tmp_path)
    assert compiled.returncode == 0, compiled.stderr
    for number, source in enumerate(("/images/1", "s3://bucket/images")):
        done = nnclr("submit", "volume.yaml", "--host", host.url, "--param", f"source={source}", home=tmp_path)
        assert done.returncode == 0, done.stderr
        run = list(host.runs.values())[number]
        assert run["runtime_config"]["parameters"] == {"source": source}
    assert "pipeline_root" not in run["runtime_config"]


def test_a_parameter_without_a_default_is_asked_for(tmp_path):
    import yaml

    documents = list(yaml.safe_load_all(PACKAGE.read_text()))
    del documents[0]["root"]["inputDefinitions"]["parameters"]["source"]["defaultValue"]
    package = tmp_path / "pipeline.yaml"
    package.write_text(yaml.safe_dump_all(documents))
    done = nnclr("submit", package, "--host", "http://127.0.0.1:9", home=tmp_path)
    assert done.returncode == 2
    assert "--param source=VALUE is missing" in done.stderr


def test_what_goes_wrong_is_one_sentence(host, tmp_path):
    (tmp_path / "settings.yaml").write_text("data: {source: x}")
    host.token = "t0ken"
    other = nnclr("submit", tmp_path / "settings.yaml", "--host", host.url, home=tmp_path)
    stranger = nnclr("submit", PACKAGE, "--host", host.url, home=tmp_path)
    nobody = nnclr("runs", "--host", "http://127.0.0.1:9", home=tmp_path)
    assert other.returncode == 2
    assert "is not a compiled pipeline (KeyError): create one with nnclr compile" in other.stderr
    assert (stranger.returncode, nobody.returncode) == (1, 1)
    assert f"Error: {host.url} refused the request (401): " in stranger.stderr
    assert "Error: http://127.0.0.1:9 does not respond: " in nobody.stderr
    for done in (other, stranger, nobody):
        assert "Traceback" not in done.stderr
        assert "t0ken" not in done.stderr
