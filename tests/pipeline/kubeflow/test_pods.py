"""The whole pipeline as a cluster runs it, from the installed wheel, against what LocalDagRunner makes of the same."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import sysconfig
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from components.model_registry import ModelRegistry
from components.model_registry.pipeline_runs import PipelineRuns
from components.registry_pusher.push import differences
from pipeline.data import sample
from tests import interpreters
from tests.interpreters import Interpreter
from tests.pipeline.commands.sessions import session
from tests.pipeline.kubeflow import node
from tests.pipeline.kubeflow.argo import Retries
from tests.pipeline.kubeflow.cluster import Cluster, Pod, PodFailed, Run
from tests.pipeline.kubeflow.host import KubeflowHost, running
from tests.pipeline.kubeflow.node import PlacedPod
from tests.pipeline.kubeflow.storage import Storage
from tests.pipeline.kubeflow.test_runs import nnclr
from tests.pipeline.local.test_run import COMPONENTS, NOTIFY, TINY
from tests.pipeline.test_notifications import SECRET, receiver
from trainer.errors import Stopped

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


@pytest.fixture
def chat():
    """A receiver of notifications."""
    with receiver() as server:
        yield server


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


def error_line(pod: Pod) -> str:
    """What infra/README.md tells people to look for in the log of a failed pod."""
    (command,) = re.findall(
        r"kubectl .* logs POD -c main \| (grep .*)", (REPOSITORY / "infra" / "README.md").read_text()
    )
    found = subprocess.run(command, shell=True, input=pod.log, capture_output=True, text=True, check=True).stdout
    reason, wrapper = found.splitlines()
    # Of Argo's wrapper, after KFP's launcher.
    assert wrapper == "Error: exit status 1"
    return reason


def wait_for_checkpoint(pod: PlacedPod, folder: Path, known: set[Path]) -> set[Path]:
    """Waits until a Trainer has saved another checkpoint than the known ones, and returns all that are there."""
    deadline = time.monotonic() + 300
    while not (found := set(folder.glob("trainings/*/*.npz"))) - known:
        assert pod.process.poll() is None, f"no checkpoint was saved: {pod.output()}"
        assert time.monotonic() < deadline, pod.output()
        time.sleep(0.02)
    return found


@dataclass
class Disturbance:
    """The first Trainer is lost with its node after its first checkpoint, the second is deleted after its first one.

    Attributes:
        folder: Where the checkpoints are.
        steps: The last step that each of them has saved.
    """

    folder: Path
    steps: list[int] = field(default_factory=list)

    def __call__(self, pod: PlacedPod) -> None:
        if pod.task != "Trainer" or pod.attempt > 1:
            return
        known = wait_for_checkpoint(pod, self.folder, set(self.folder.glob("trainings/*/*.npz")))
        if pod.attempt == 0:
            pod.lose()
        else:
            # Argo gives it a second. A machine that runs other tests at the same time may need more.
            pod.delete(grace_seconds=60)
            # SIGTERM was a reason to save another one.
            wait_for_checkpoint(pod, self.folder, known)
        self.steps.append(max(int(path.stem.removeprefix("step-")) for path in self.folder.glob("trainings/*/*.npz")))


def compile_with_volumes(started_image, tmp_path, data: Path, checkpoints: Path, *notify: str) -> Path:
    """Compiles a pipeline that mounts the claims `images`, at the folder above `data`, and `checkpoints`.

    With `NOTIFY`, it tells the address in the Secret `chat` how each run ended.
    """
    volumes = ["--set", f"kubeflow.volumes={{images: {data.parent}}}", "--set", "kubeflow.trainer_volume=checkpoints"]
    if not node.confines():
        volumes = ["--set", f"kubeflow.volumes={{images: {data.parent}, checkpoints: {checkpoints}}}"]
    cluster = [
        *("--set", f"kubeflow.checkpoints={'/checkpoints' if node.confines() else checkpoints}/trainings"),
        *("--set", "kubeflow.secrets={mlflow: {address: MLFLOW_TRACKING_URI}, chat: {url: CHAT}}", *notify),
        # What the run's parameters must put right: the default would train three times as long.
        *("--set", "trainer.epochs=18"),
    ]
    command = ["-m", "pipeline", "compile", *TINY, "--data", str(data), "-o", "pipeline.yaml"]
    compiled = started_image.run(*command, *volumes, *cluster, cwd=tmp_path)
    assert compiled.returncode == 0, compiled.stderr
    assert f"Wrote pipeline.yaml: pipeline nnclr-sample, {11 if notify else 10} steps" in compiled.stdout
    return tmp_path / "pipeline.yaml"


def writable_cluster(
    started_image: Interpreter, storage: Storage, tmp_path: Path, registry: str
) -> tuple[Cluster, Path]:
    """Returns a cluster whose volumes are writable and hold few images, and a pipeline that is compiled for it."""
    data, checkpoints = tmp_path / "spans" / "7", tmp_path / "volume"
    sample.write_sample(data, counts={"unlabelled": 128, "train": 100, "test": 60})
    checkpoints.mkdir()
    package = compile_with_volumes(started_image, tmp_path, data, checkpoints)
    claims = {"images": data.parent, "checkpoints": checkpoints}
    secrets = {"mlflow": {"address": registry}, "chat": {"url": "http://127.0.0.1:9"}}
    return Cluster(tmp_path / "cluster", started_image, storage, secrets, claims, fs_group=1000), package


def require_a_reason(cluster: Cluster, package: Path, parameters: dict[str, Any]) -> None:
    """Runs the pipeline with a volume that belongs to root, up to the Trainer."""
    with pytest.raises(PodFailed, match="Trainer failed"):
        cluster.run(package, parameters)
    *_, failed, _ = cluster.runs[-1].pods
    assert (failed.task, failed.attempt) == ("Trainer", 0)
    assert error_line(failed).startswith(
        "Error: Trainer failed: Checkpoints cannot be written to /checkpoints/trainings"
    )
    assert failed.termination_message == error_line(failed)


def require_that_it_resumed(run: Run, steps: list[int]) -> None:
    assert [(pod.task, pod.code) for pod in run.pods if pod.code != 0] == [("Trainer", None), ("Trainer", None)]
    lost, deleted, trained = (pod for pod in run.pods if pod.task == "Trainer")
    assert lost.python_code == -signal.SIGKILL
    assert deleted.python_code == Stopped.exit_code
    found = [re.findall(r"Going on from .*, after step (\d+)\.", pod.output) for pod in (deleted, trained)]
    assert found == [[str(step)] for step in steps]


def require_page(run: Run, storage: Storage, probe_accuracy: float, registry: str) -> None:
    """Demands what the page of a run shows."""
    shown = run.artifacts["LinearProbeEvaluator"]
    assert shown["accuracy"].metadata["probe_accuracy"] == probe_accuracy
    assert len(shown["confusion_matrix"].metadata["confusionMatrix"]["struct"]["rows"]) == 10
    assert "Not released." in storage.read(shown["report"].uri)
    assert "Released as" in storage.read(run.artifacts["RegistryPusher"]["report"].uri)
    assert run.artifacts["Trainer"]["training"].metadata["steps"] == 60
    assert run.artifacts["RegistryPusher"]["registered_model"].uri.startswith(registry)


@pytest.mark.long
def test_pods_bless_what_the_local_runner_blesses(
    started_image, storage, tmp_path, running_mlflow_server, monkeypatch, chat
):
    data, checkpoints = tmp_path / "spans" / "7", tmp_path / "volume"
    sample.write_sample(data, counts={"unlabelled": 640, "train": 300, "test": 200})
    (local,) = session(tmp_path, ["run", *TINY, "--data", str(data), "--json"])
    assert local.code == 0, local.err

    # As new volumes do, it belongs to root.
    checkpoints.mkdir(mode=0o755)
    package = compile_with_volumes(started_image, tmp_path, data, checkpoints, *NOTIFY)
    claims = {"images": data.parent, "checkpoints": checkpoints}
    secrets = {"mlflow": {"address": running_mlflow_server}, "chat": {"url": chat.address}}
    cluster = Cluster(tmp_path / "cluster", started_image, storage, secrets, claims, retries=Retries.KFP_2_17)
    (data / "_SUCCESS").touch()
    # As a schedule would: the newest, if it is new.
    parameters = {"source": f"{data.parent}/{{SPAN}}", "only_new": 1, "epochs": 6}
    made = set()
    if node.confines():
        require_a_reason(cluster, package, parameters)
        made = {"ImageExampleGen", "SchemaImporter", "StatisticsGen", "ExampleValidator"}

    # With infra/kubernetes/workflow-controller: volumes are writable, and a pod that is lost is retried.
    cluster.fs_group, cluster.retries = 1000, Retries.ALWAYS
    cluster.disturb = disturbance = Disturbance(checkpoints)
    # The run's parameter has priority.
    secrets["mlflow"]["address"] = "http://127.0.0.1:9"
    parameters["registry_uri"] = running_mlflow_server
    run = cluster.run(package, parameters)
    assert set(run.cached) == made
    assert {*run.ran, *run.cached} == {"DataResolver", *COMPONENTS, "Notifier"}
    require_that_it_resumed(run, disturbance.steps)
    for pod in [pod for each in cluster.runs for pod in each.pods if pod.task != "Notifier"]:
        assert pod.output.startswith(f"{pod.task} started")
        # A person reads it: no hints by the hundred, no protocol buffers.
        assert len(pod.output.splitlines()) < 40, pod.output
        assert pod.code != 0 or pod.output.rstrip().endswith(f"{pod.task} done")
    evaluated = run.artifacts["LinearProbeEvaluator"]
    metrics = json.loads(storage.read(f"{evaluated['evaluation'].uri}/metrics.json"))
    (theirs,) = tmp_path.glob("nnclr-runs/artifacts/LinearProbeEvaluator/evaluation/*/metrics.json")
    assert metrics == json.loads(theirs.read_text())
    assert metrics["probe_accuracy"] == local.json["evaluation"]["probe_accuracy"]
    assert storage.names(evaluated["blessing"].uri) == ["BLESSED"]

    require_page(run, storage, metrics["probe_accuracy"], running_mlflow_server)

    pushed = json.loads(storage.read(f"{run.artifacts['RegistryPusher']['pushed_model'].uri}/push.json"))
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
    idle, _ = cluster.run(package, parameters).pods
    assert idle.task == "DataResolver"
    assert f"Nothing new: run {details.tags['pipeline_run']} of " in idle.output
    runs = PipelineRuns(registry, "nnclr-sample").newest()
    assert [run.outcome for run in runs] == ["nothing new", "released"]
    assert {run.source for run in runs} == {str(data)}
    require_notices(cluster, chat, registry.page(version), metrics)


def require_notices(cluster: Cluster, chat, page: str, metrics: dict[str, Any]) -> None:
    """Demands that the end of each run was told, and that no address of a receiver is in a log."""
    told = {notice["run_id"]: notice for _, _, notice in chat.received}
    *refused, released, idle = (told[run.run_id] for run in cluster.runs)
    assert [notice["event"] for notice in refused] == ["failed"] * len(refused)
    assert (released["event"], idle["event"]) == ("released", "nothing_new")
    assert (released["accuracy"], released["interval"]) == (metrics["probe_accuracy"], metrics["probe_interval"])
    assert (released["version"], released["page"]) == ("models:/nnclr-sample/1", page)
    for run in cluster.runs:
        assert [pod.task for pod in run.pods].count("Notifier") == 1
        assert not [pod.task for pod in run.pods if SECRET in pod.log]


def test_a_users_mistake_is_one_line_of_the_pods_log(started_image, storage, tmp_path, running_mlflow_server, chat):
    compiled = [*("compile", *TINY, "--data", "gs://gone", "-o", "p.yaml", "--set", "kubeflow.retries=0")]
    compiled += [*NOTIFY, "--set", "kubeflow.secrets={chat: {url: CHAT}}"]
    assert started_image.run("-m", "pipeline", *compiled, cwd=tmp_path).returncode == 0
    cluster = Cluster(tmp_path / "cluster", started_image, storage, {"chat": {"url": chat.address}})
    with pytest.raises(PodFailed, match="DataResolver failed"):
        cluster.run(tmp_path / "p.yaml", {"registry_uri": running_mlflow_server, "source": str(tmp_path / "nowhere")})
    failed, notifier = cluster.runs[0].pods
    ((_, _, notice),) = chat.received
    assert (notice["event"], notice["run_id"]) == ("failed", cluster.runs[0].run_id)
    assert notice["text"] in notifier.output
    assert SECRET not in notifier.log + (tmp_path / "p.yaml").read_text()
    assert (failed.task, failed.code, failed.python_code) == ("DataResolver", 1, 3)
    assert "Traceback" not in failed.log
    last = failed.output.rstrip().splitlines()[-1]
    assert last == error_line(failed)
    assert last.startswith("Error: DataResolver failed: ")
    assert f"{tmp_path}/nowhere does not exist or is empty" in last
    assert failed.termination_message == (last if node.confines() else "")
    # What is not known is refused before anything starts.
    with pytest.raises(AssertionError, match="unknown parameters"):
        cluster.run(tmp_path / "p.yaml", {"epoch": 3})


@pytest.mark.parametrize(("retries", "attempts"), [(Retries.KFP_2_14_TO_2_16, 1), (Retries.KFP_2_17, 3)])
def test_a_lost_pod_is_retried_where_the_installation_does_so(started_image, storage, tmp_path, retries, attempts):
    compiled = [*("compile", *TINY, "--data", "gs://images", "-o", "p.yaml")]
    assert started_image.run("-m", "pipeline", *compiled, cwd=tmp_path).returncode == 0

    cluster = Cluster(tmp_path / "cluster", started_image, storage, disturb=PlacedPod.lose, retries=retries)
    with pytest.raises(PodFailed, match="DataResolver failed"):
        cluster.run(tmp_path / "p.yaml", {})
    assert [(pod.task, pod.code) for pod in cluster.runs[0].pods] == [("DataResolver", None)] * attempts


@pytest.mark.long
def test_images_and_checkpoints_in_s3_with_credentials_from_a_secret(
    started_image, storage, object_storage, tmp_path, running_mlflow_server
):
    sample.write_sample(tmp_path / "1", counts={"unlabelled": 128, "train": 100, "test": 60})
    (tmp_path / "1" / "_SUCCESS").touch()
    storage.upload(tmp_path / "1", "s3://bucket/spans/1")
    environment = {"AWS_ENDPOINT_URL": object_storage, "AWS_DEFAULT_REGION": "us-east-1"}
    secrets = {"nnclr-s3": {"id": "tests", "key": "none"}, "mlflow": {"address": running_mlflow_server}}
    names = "{nnclr-s3: {id: AWS_ACCESS_KEY_ID, key: AWS_SECRET_ACCESS_KEY}, mlflow: {address: MLFLOW_TRACKING_URI}}"
    settings = {
        "kubeflow.environment": json.dumps(environment),
        "kubeflow.secrets": names,
        "kubeflow.checkpoints": "s3://bucket/checkpoints",
        "registry.model_name": "in-s3",
        "registry.serving_directory": "s3://bucket/served",
        "trainer.checkpoint.every": "1",
    }
    given = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    command = ["-m", "pipeline", "compile", *TINY, "--data", "s3://bucket/spans/{SPAN}", "-o", "pipeline.yaml", *given]
    compiled = started_image.run(*command, cwd=tmp_path)
    assert compiled.returncode == 0, compiled.stderr

    def delete_the_trainer(pod: PlacedPod) -> None:
        if pod.task == "Trainer":
            deadline = time.monotonic() + 300
            while not any(name.endswith(".npz") for name in storage.names("s3://bucket/checkpoints")):
                assert time.monotonic() < deadline, pod.output()
                time.sleep(0.02)
            pod.delete(grace_seconds=60)

    cluster = Cluster(tmp_path / "cluster", started_image, storage, secrets, disturb=delete_the_trainer)
    with pytest.raises(PodFailed, match="Trainer failed"):
        cluster.run(tmp_path / "pipeline.yaml", {"epochs": 6})
    cluster.disturb = lambda pod: None
    run = cluster.run(tmp_path / "pipeline.yaml", {"epochs": 6})
    assert "ImageExampleGen" in run.cached
    trained = [pod for pod in run.pods if pod.task == "Trainer"][-1]
    assert re.search(r"Going on from s3://bucket/checkpoints/.*, after step \d+\.", trained.output)
    assert "1/saved_model.pb" in storage.names("s3://bucket/served")
    # A training that came to its end needs no checkpoints.
    assert not any(name.endswith(".npz") for name in storage.names("s3://bucket/checkpoints"))


@pytest.mark.long
def test_submit_tells_what_became_of_a_deleted_trainer(started_image, storage, tmp_path, running_mlflow_server):
    cluster, package = writable_cluster(started_image, storage, tmp_path, running_mlflow_server)

    def delete_the_first_trainer(pod: PlacedPod) -> None:
        if (pod.task, pod.attempt) == ("Trainer", 0):
            pod.wait_for_output("Trainer started")
            pod.delete()

    cluster.disturb = delete_the_first_trainer
    told = {}
    # Each with a number of epochs of its own, so that the Trainer's result is not in the cache.
    for epochs, cluster.retries in enumerate(Retries, start=1):
        with contextlib.suppress(PodFailed):
            cluster.run(package, {"epochs": epochs})
        states = {pod.task: "SUCCEEDED" if pod.code == 0 else "FAILED" for pod in cluster.runs[-1].pods}
        state = "FAILED" if "FAILED" in states.values() else "SUCCEEDED"
        with running(KubeflowHost([(state, states)])) as host:
            arguments = ("submit", package, "--host", host.url, "--wait", "--every", "0.1")
            told[cluster.retries] = nnclr(*arguments, home=tmp_path).stdout.partition(": ")[2].strip()
    assert told == {
        Retries.KFP_2_14_TO_2_16: "failed: Trainer",
        Retries.KFP_2_17: "succeeded",
        Retries.ALWAYS: "succeeded",
    }


@pytest.mark.long
def test_a_fresh_interpreter_starts_in_a_pod(started_image, storage, tmp_path, running_mlflow_server):
    """Other pods fork from an interpreter that has imported everything outside of them."""
    data = tmp_path / "images"
    sample.write_sample(data, counts={"unlabelled": 20, "train": 10, "test": 10})
    settings = [*TINY, "--data", str(data), "--set", f"kubeflow.volumes={{images: {data}}}"]
    # Other runs keep their artifacts in minio://.
    settings += ["--set", "kubeflow.pipeline_root=s3://bucket/runs"]
    compiled = started_image.run("-m", "pipeline", "compile", *settings, "-o", "p.yaml", cwd=tmp_path)
    assert compiled.returncode == 0, compiled.stderr

    def stop_after_ingest(pod: PlacedPod) -> None:
        if pod.task == "StatisticsGen":
            pod.lose()

    cluster = Cluster(tmp_path / "cluster", started_image, storage, claims={"images": data}, disturb=stop_after_ingest)
    cluster.fresh = True
    with pytest.raises(PodFailed):
        cluster.run(tmp_path / "p.yaml", {"registry_uri": running_mlflow_server})
    pods = {pod.task: pod for pod in cluster.runs[0].pods if pod.code == 0}
    assert "ImageExampleGen" in pods, cluster.runs[0].pods[-1].output
    stored = cluster.runs[0].artifacts["ImageExampleGen"]["examples"].uri
    assert stored.startswith("s3://bucket/runs/")
    assert any(name.startswith("Split-") for name in storage.names(stored))
    for task, pod in pods.items():
        lines = pod.output.splitlines()
        assert lines[0] == f"{task} started"
        assert lines[-1] == f"{task} done"
        assert len(lines) < 40


@pytest.mark.long
def test_further_runs_take_from_the_cache_what_is_the_same(started_image, storage, tmp_path, running_mlflow_server):
    cluster, package = writable_cluster(started_image, storage, tmp_path, running_mlflow_server)
    # Under this alias, the registry has no champion before the first run.
    first, second, third = (cluster.run(package, {"epochs": 1, "champion_alias": "cached"}) for _ in range(3))
    assert set(first.ran) == {"DataResolver", *COMPONENTS}
    against_champion = {"ChampionResolver", "DataGate", "LinearProbeEvaluator", "RegistryPusher"}
    assert set(second.ran) == {"DataResolver", *against_champion}
    assert set(second.cached) == set(first.ran) - set(second.ran)
    assert set(third.ran) == {"DataResolver", "RegistryPusher"}
    assert set(third.cached) == set(first.ran) - set(third.ran)
    assert second.artifacts["Trainer"]["model"].name == first.artifacts["Trainer"]["model"].name
    first_evaluation, second_evaluation = (run.artifacts["LinearProbeEvaluator"] for run in (first, second))
    assert second_evaluation["evaluation"].uri != first_evaluation["evaluation"].uri
