"""The whole pipeline as a cluster runs it, from the installed wheel, against what LocalDagRunner makes of the same."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

import pytest

from components.model_registry import ModelRegistry
from components.model_registry.pipeline_runs import PipelineRuns
from components.registry_pusher.push import differences
from pipeline.data import sample
from tests import interpreters
from tests.interpreters import Interpreter, Process
from tests.pipeline.commands.sessions import session
from tests.pipeline.kubeflow.argo import Retries
from tests.pipeline.kubeflow.cluster import Cluster, PodFailed
from tests.pipeline.local.test_run import COMPONENTS, TINY

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """Python of an environment with the dependencies and the wheel, as in the container image; not the checkout."""
    root = tmp_path_factory.mktemp("image")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", root / "dist"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    (wheel,) = (root / "dist").glob("*.whl")
    venv.create(root / "venv", symlinks=True)
    python = root / "venv" / "bin" / "python3"
    (site,) = (root / "venv" / "lib").glob("python*/site-packages")
    # Of a folder that is added this way, no other .pth files are read: the checkout stays outside.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "pip", "install", "--quiet", "--no-deps", "--python", python, wheel], check=True)
    return python


@pytest.fixture(scope="module")
def started_image(image) -> Interpreter:
    """The image's Python, which has imported what pods import; it sees the wheel and not the checkout."""
    modules = [*interpreters.COMMAND_MODULES, "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"]
    return Interpreter(image, modules, cwd=image.parents[1])


def test_the_wheel_is_complete(image, tmp_path):
    code = "import pipeline, pathlib; print(pathlib.Path(pipeline.__file__).parent)"
    where = subprocess.run([image, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(where).is_relative_to(image.parents[1])
    package_data = ("presets/sample.yaml", "presets/settings.schema.json", "config/starter.yaml", "schema/schema.pbtxt")
    for name in (*package_data, "requirements.lock", "kubeflow/entrypoint.py"):
        assert (Path(where) / name).is_file(), name
    nnclr = image.with_name("nnclr")
    listed = subprocess.run([nnclr, "presets", "list"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert {line.partition(":")[0] for line in listed.splitlines()} >= {"sample", "keras-example", "paper"}
    # What the image's build ends with.
    doctor = subprocess.run([nnclr, "doctor", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert doctor.returncode == 0, doctor.stdout
    findings = {finding["name"]: finding["detail"] for finding in json.loads(doctor.stdout)}
    assert findings.keys() >= {"Packages", "Devices", "TFX", "Beam", "Model registry"}
    assert findings["Packages"].endswith("dependencies as in requirements.lock")


def kill_at_first_checkpoint(checkpoints: Path):
    def disturb(task: str, process: Process, attempt: int) -> None:
        if task != "Trainer" or attempt:
            return
        deadline = time.monotonic() + 300
        while not list(checkpoints.glob("*/*.npz")) and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)

    return disturb


def test_pods_bless_what_the_local_runner_blesses(started_image, tmp_path, running_mlflow_server, monkeypatch):
    data = tmp_path / "spans" / "7"
    sample.write_sample(data, counts={"unlabelled": 640, "train": 300, "test": 200})
    settings = [*TINY, "--data", str(data)]
    (local,) = session(tmp_path, ["run", *settings, "--json"])
    assert local.code == 0, local.err

    checkpoints = tmp_path / "volume"
    # What the run's parameters must put right: the default would train three times as long.
    command = ["-m", "pipeline", "compile", *settings, "-o", "pipeline.yaml", "--set", "trainer.epochs=18"]
    volume = ("--set", f"kubeflow.volumes={{disk: {tmp_path}}}", "--set", f"kubeflow.checkpoints={checkpoints}")
    compiled = started_image.run(*command, *volume, cwd=tmp_path)
    assert compiled.returncode == 0, compiled.stderr
    assert "Wrote pipeline.yaml: pipeline nnclr-sample, 10 steps" in compiled.stdout
    # With infra/kubernetes/workflow-controller: a pod that is lost is retried.
    cluster = Cluster(
        tmp_path / "cluster", started_image, {}, kill_at_first_checkpoint(checkpoints), retries=Retries.ALWAYS
    )
    (data / "_SUCCESS").touch()
    # As a schedule would: the newest, if it is new.
    parameters = {"source": f"{data.parent}/{{SPAN}}", "only_new": 1, "epochs": 6}
    parameters["registry_uri"] = running_mlflow_server
    outputs = cluster.run(tmp_path / "pipeline.yaml", parameters)

    codes = [(pod.task, pod.code) for pod in cluster.pods if pod.code or pod.task == "Trainer"]
    assert codes == [("Trainer", -signal.SIGKILL), ("Trainer", 0)]
    assert {pod.task for pod in cluster.pods} == {"DataResolver", *COMPONENTS}
    trained = next(pod for pod in cluster.pods if pod.task == "Trainer" and not pod.code)
    assert "Going on from" in trained.log, trained.log
    for pod in cluster.pods:
        assert pod.log.startswith(f"{pod.task} started")
        # A person reads it: no hints by the hundred, no protocol buffers.
        assert len(pod.log.splitlines()) < 40, pod.log
        assert pod.code or pod.log.rstrip().endswith(f"{pod.task} done")
    metrics = json.loads((outputs["LinearProbeEvaluator"]["evaluation"] / "metrics.json").read_text())
    (theirs,) = tmp_path.glob("nnclr-runs/artifacts/LinearProbeEvaluator/evaluation/*/metrics.json")
    assert metrics == json.loads(theirs.read_text())
    assert metrics["probe_accuracy"] == local.json["evaluation"]["probe_accuracy"]
    assert (outputs["LinearProbeEvaluator"]["blessing"] / "BLESSED").is_file()

    pushed = json.loads((outputs["RegistryPusher"]["pushed_model"] / "push.json").read_text())
    assert (pushed["version"], pushed["alias"], pushed["changed"]) == (1, "champion", True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", running_mlflow_server)
    registry = ModelRegistry("")
    version = registry.aliased("nnclr-sample", "champion")
    assert differences(registry, version) == []
    details = registry.details(version)
    # The run's own identity and parameters are on record, not the defaults.
    assert len(details.tags["pipeline_run"]) == 36
    assert details.parameters["trainer.epochs"] == "6"
    assert details.tags["lock_sha256"] != "unknown"

    # The next tick of the schedule: the same images.
    seen = len(cluster.pods)
    assert cluster.run(tmp_path / "pipeline.yaml", parameters).keys() == {"DataResolver"}
    (idle,) = cluster.pods[seen:]
    assert f"Nothing new: run {details.tags['pipeline_run']} of " in idle.log
    runs = PipelineRuns(registry, "nnclr-sample").newest()
    assert [run.outcome for run in runs] == ["nothing new", "released"]
    assert {run.source for run in runs} == {str(data)}


def test_a_users_mistake_is_one_line_of_the_pods_log(started_image, tmp_path, running_mlflow_server):
    compiled = [*("compile", *TINY, "--data", "gs://gone", "-o", "p.yaml", "--set", "kubeflow.retries=0")]
    assert started_image.run("-m", "pipeline", *compiled, cwd=tmp_path).returncode == 0
    cluster = Cluster(tmp_path / "cluster", started_image, {})
    with pytest.raises(PodFailed, match="DataResolver failed"):
        cluster.run(tmp_path / "p.yaml", {"registry_uri": running_mlflow_server, "source": str(tmp_path / "nowhere")})
    failed = cluster.pods[-1]
    assert (failed.task, failed.code) == ("DataResolver", 3)
    assert "Traceback" not in failed.log
    last = failed.log.rstrip().splitlines()[-1]
    assert last.startswith("Error: DataResolver failed: ")
    assert f"{tmp_path}/nowhere does not exist or is empty" in last
    # What is not known is refused before anything starts.
    with pytest.raises(AssertionError, match="unknown parameters"):
        cluster.run(tmp_path / "p.yaml", {"epoch": 3})


@pytest.mark.parametrize(("retries", "attempts"), [(Retries.KFP_2_14_TO_2_16, 1), (Retries.KFP_2_17, 3)])
def test_a_lost_pod_is_retried_where_the_installation_does_so(started_image, tmp_path, retries, attempts):
    compiled = [*("compile", *TINY, "--data", "gs://images", "-o", "p.yaml")]
    assert started_image.run("-m", "pipeline", *compiled, cwd=tmp_path).returncode == 0

    def lose(task: str, process: Process, attempt: int) -> None:
        process.kill()

    cluster = Cluster(tmp_path / "cluster", started_image, {}, lose, retries)
    with pytest.raises(PodFailed, match="DataResolver failed"):
        cluster.run(tmp_path / "p.yaml", {})
    assert [(pod.task, pod.code) for pod in cluster.pods] == [("DataResolver", -signal.SIGKILL)] * attempts
