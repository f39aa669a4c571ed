"""The manifests in infra/ that say something about the software. Their form is checked by `make lint`."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from trainer import settings_tree
from trainer.config import TrainerSettings

KUBERNETES = Path(__file__).parents[2] / "infra" / "kubernetes"


@pytest.fixture(scope="module")
def several_machines() -> dict[str, dict]:
    """Objects by kind, as kubectl would apply them."""
    kubectl = Path(sys.executable).with_name("kubectl")
    command = [kubectl, "kustomize", KUBERNETES / "several-machines"]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {document["kind"]: document for document in yaml.safe_load_all(rendered)}


def test_every_machine_finds_the_others(several_machines, monkeypatch):
    import tensorflow as tf

    job, service = several_machines["Job"]["spec"], several_machines["Service"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    environment = {variable["name"]: variable for variable in container["env"]}
    index = environment["INDEX"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert index == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    # A pod of an indexed Job is reached as JOB-INDEX.SUBDOMAIN, once the headless service selects it.
    name = several_machines["Job"]["metadata"]["name"]
    assert job["completions"] == job["parallelism"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= job["template"]["metadata"]["labels"].items()
    assert service["spec"]["clusterIP"] == "None"
    (port,) = [port["port"] for port in service["spec"]["ports"]]
    for machine in range(job["completions"]):
        # As the kubelet replaces it.
        monkeypatch.setenv("TF_CONFIG", environment["TF_CONFIG"]["value"].replace("$(INDEX)", str(machine)))
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        assert (resolver.task_type, resolver.task_id) == ("worker", machine)
        assert resolver.cluster_spec().as_dict() == {
            "worker": [f"{name}-{other}.{pod['subdomain']}:{port}" for other in range(job["completions"])]
        }


def test_its_settings_are_those_of_the_trainer(several_machines):
    (container,) = several_machines["Job"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python3", "-m", "trainer"]
    place = Path(container["args"][container["args"].index("--config") + 1])
    assert str(place.parent) in [mount["mountPath"] for mount in container["volumeMounts"]]
    text = several_machines["ConfigMap"]["data"][place.name]
    settings = settings_tree.validated(TrainerSettings, settings_tree.parsed(text, "")["trainer"])
    assert settings.batch_size % several_machines["Job"]["spec"]["completions"] == 0


@pytest.mark.parametrize("overlay", ["base", "overlays/gke"])
def test_the_clusters_settings_are_those_of_the_pipeline(overlay):
    from pipeline import config

    settings = config.load("stl10-resnet18", KUBERNETES / overlay / "settings.yaml", ["data.source=gs://x"])
    assert settings.kubeflow.environment == {"MLFLOW_TRACKING_URI": "http://nnclr-mlflow:5000"}
    # Only a cloud's nodes are known here.
    trainer = settings.kubeflow.step("Trainer")
    assert (trainer.gpus, bool(trainer.node_selector)) == ((1, True) if overlay == "overlays/gke" else (0, False))


def test_the_documents_settings_of_a_cluster_are_valid():
    from pipeline import config

    document = (KUBERNETES.parents[1] / "docs" / "kubeflow.md").read_text()
    (block,) = re.findall(r"^```yaml\n(kubeflow:\n.*?)^```", document, re.DOTALL | re.MULTILINE)
    cluster = settings_tree.validated(config.Settings, settings_tree.parsed(block, "docs/kubeflow.md")).kubeflow
    assert cluster.step("Trainer").gpus == 1
    assert cluster.step("ImageExampleGen").memory == "32Gi"


def test_the_image_of_beams_workers_has_the_beam_that_starts_them():
    repository = KUBERNETES.parents[1]
    (pinned,) = re.findall(r"^apache-beam==(\S+)", (repository / "requirements.lock").read_text(), re.MULTILINE)
    assert f"apache/beam_python3.11_sdk:{pinned} " in (repository / "infra" / "Dockerfile").read_text()


def test_the_controllers_defaults_retry_lost_pods_and_not_whole_groups_of_steps():
    """As tried with Argo's real controller: a limit above 0 would also be that of DAG templates."""
    file = KUBERNETES / "workflow-controller" / "defaults.yaml"
    defaults = yaml.safe_load(yaml.safe_load(file.read_text())["data"]["workflowDefaults"])
    template = defaults["spec"]["templateDefaults"]
    assert template["retryStrategy"] == {"limit": "0", "retryPolicy": "Always"}
    (uid,) = re.findall(r"^USER (\d+)", (KUBERNETES.parent / "Dockerfile").read_text(), re.MULTILINE)
    assert template["securityContext"]["fsGroup"] == int(uid)


def test_the_upgrade_of_mlflows_database_reaches_the_database_of_its_server():
    _, database = yaml.safe_load_all((KUBERNETES / "base" / "network-policy.yaml").read_text())
    (allowed,) = database["spec"]["ingress"][0]["from"]
    (names,) = allowed["podSelector"]["matchExpressions"]
    template = yaml.safe_load((KUBERNETES / "mlflow-upgrade" / "job.yaml").read_text())["spec"]["template"]
    server = next(yaml.safe_load_all((KUBERNETES / "base" / "mlflow.yaml").read_text()))["spec"]["template"]
    assert names["values"] == [pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in (server, template)]
    (upgrade,), (serve,) = (pod["spec"]["containers"] for pod in (template, server))
    (address,) = re.findall(r'--backend-store-uri ("[^"]*")', serve["args"][0])
    assert upgrade["args"] == [f"exec mlflow db upgrade {address}"]
    assert upgrade["env"] == [each for each in serve["env"] if each["name"] == "DATABASE_PASSWORD"]


@pytest.fixture(scope="module")
def writable_checkpoints() -> dict:
    """The Job that makes the volume for checkpoints writable."""
    return yaml.safe_load((KUBERNETES / "writable-checkpoints" / "job.yaml").read_text())


def test_the_volume_for_checkpoints_is_made_writable_for_the_user_of_the_steps(writable_checkpoints):
    from pipeline import config

    pod = writable_checkpoints["spec"]["template"]["spec"]
    ((uid, gid),) = re.findall(r"^USER (\d+):(\d+)", (KUBERNETES.parent / "Dockerfile").read_text(), re.MULTILINE)
    security = pod["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (int(uid), int(gid), int(gid))
    cluster = config.load("sample", KUBERNETES / "base" / "settings.yaml").kubeflow
    (volume,) = pod["volumes"]
    claim = yaml.safe_load((KUBERNETES / "base" / "checkpoints.yaml").read_text())
    assert volume["persistentVolumeClaim"] == {"claimName": cluster.trainer_volume}
    assert claim["metadata"]["name"] == cluster.trainer_volume
    # Some kinds of storage heed fsGroup only then.
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


@pytest.mark.parametrize("job", ["writable-checkpoints", "mlflow-upgrade"])
def test_jobs_run_as_restricted_as_all_other_pods(job):
    pod = yaml.safe_load((KUBERNETES / job / "job.yaml").read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert "initContainers" not in pod
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_job_succeeds_only_if_the_volume_can_be_written(writable_checkpoints, tmp_path):
    (container,) = writable_checkpoints["spec"]["template"]["spec"]["containers"]
    (mount,) = container["volumeMounts"]
    (script,) = container["args"]

    def run(volume: Path) -> subprocess.CompletedProcess:
        command = [*container["command"], script.replace(mount["mountPath"], str(volume))]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run(tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (0, [])
    assert done.stdout.startswith("The volume can be written by user")
    # A folder that is not there stands for one that cannot be written: tests may run as root, who may write all.
    failed = run(tmp_path / "missing")
    assert failed.returncode == 1
    assert "The volume cannot be written by user" in failed.stdout


def test_all_manifests_are_checked_by_make_lint():
    makefile = (KUBERNETES.parents[1] / "Makefile").read_text()
    loop = re.search(r"for overlay in (.*?); do", makefile, re.DOTALL)[1].replace("\\\n", " ").split()
    repository = KUBERNETES.parents[1]
    checked = {folder for pattern in loop for folder in repository.glob(pattern)}
    # The base alone is no installation: the overlays contain it.
    assert {file.parent for file in KUBERNETES.rglob("kustomization.yaml")} - checked == {KUBERNETES / "base"}


@pytest.fixture
def stages() -> dict[str, str]:
    """The Dockerfile's stages, by name."""
    text = (KUBERNETES.parents[1] / "infra" / "Dockerfile").read_text()
    return dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", text, re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("environment", ["cpu-environment", "gpu-environment"])
def test_the_image_has_bytecode_which_its_user_could_not_write(stages, environment):
    assert "ENV UV_COMPILE_BYTECODE=1" in stages["tools"]
    assert f"FROM tools AS {environment}\n" in (KUBERNETES.parents[1] / "infra" / "Dockerfile").read_text()
    assert "uv pip install" in stages[environment]


def test_the_images_label_is_the_version_that_is_in_it(stages):
    assert f'org.opencontainers.image.version="{metadata.version("nnclr")}"' in stages["runtime"]


def test_the_cpu_image_has_the_locked_tensorflow():
    repository = KUBERNETES.parents[1]
    (pinned,) = re.findall(r"^tensorflow==(\S+)", (repository / "requirements.lock").read_text(), re.MULTILINE)
    assert f"tensorflow-cpu=={pinned} " in (repository / "infra" / "cpu.lock").read_text()
