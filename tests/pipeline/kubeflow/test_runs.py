"""Submitting to, and looking at, a host of Kubeflow Pipelines, through the real client and the real command."""

import json
import os
import subprocess
from pathlib import Path

import pytest

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
    assert run["experiment_id"] == host.experiments["nnclr-sample"]
    # The platform's part goes along: without it there would be no GPU node, and no Secret.
    assert "platforms" in json.dumps(run["pipeline_spec"])
    messages = [line.strip() for line in done.stderr.splitlines()]
    assert messages == [
        f"Run {run_id}: {host.url}/#/runs/details/{run_id}",
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


def test_a_run_that_fails_ends_with_1(host, tmp_path):
    host.states[2:] = [("FAILED", {"ImageExampleGen": "FAILED"})]
    done = nnclr("submit", PACKAGE, "--host", host.url, "--wait", "--every", "0.1", home=tmp_path)
    assert done.returncode == 1
    assert "ImageExampleGen failed" in done.stderr
    assert done.stdout.strip().endswith(": failed")


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("epoch=3", "--param epoch: "),
        ("epochs=three", "--param epochs: 'three' is not of the type NUMBER_INTEGER"),
        ("epochs", "--param takes NAME=VALUE"),
        ("source=s3://bucket/images", "--param source: the steps cannot read 's3://bucket/images'"),
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


def test_a_source_on_a_volume_of_the_package_is_submitted(host, tmp_path):
    options = ("--data", "/images/{SPAN}", "--set", "kubeflow.volumes={images: /images}", "-o", "volume.yaml")
    compiled = nnclr("compile", *options, home=tmp_path)
    assert compiled.returncode == 0, compiled.stderr
    done = nnclr("submit", "volume.yaml", "--host", host.url, "--param", "source=/images/1", home=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = host.runs.values()
    assert run["runtime_config"]["parameters"] == {"source": "/images/1"}
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
