"""The pods of the compiled pipeline, as Kubernetes gets to see them."""

import copy

import pytest

from pipeline import config
from pipeline.kubeflow import compile as kubeflow
from tests.pipeline.kubeflow import manifest
from tests.pipeline.kubeflow.test_compile import EVERYTHING, TASKS

SETTINGS = [
    *EVERYTHING,
    *("kubeflow.volumes={images: /images}", "kubeflow.secret_files={google: /etc/google}"),
    *("kubeflow.image_pull_policy=IfNotPresent", "kubeflow.image_pull_secrets=[registry]"),
    "kubeflow.environment={MLFLOW_TRACKING_URI: 'http://$(MLFLOW_HOST):5000', PRICE: $$5}",
    "kubeflow.shared_memory=2Gi",
]


@pytest.fixture(scope="module")
def compiled():
    return kubeflow.compile_pipeline(config.load("sample", overrides=SETTINGS))


def specs(compiled, task):
    """The container spec and the executor config of a task; both may be changed."""
    spec, platform = copy.deepcopy(compiled)
    label = spec["components"][task]["executorLabel"]
    container = spec["deploymentSpec"]["executors"][label]["container"]
    return container, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label]


def pod(compiled, task, **options):
    return manifest.pod(task, *specs(compiled, task), name="nnclr-1", launcher_arguments=["--run_id", "1"], **options)


@pytest.mark.parametrize("task", sorted(TASKS))
def test_kubernetes_accepts_the_pod_of_every_task(compiled, task):
    found = pod(compiled, task, retry=1)
    spec, (main,) = found["spec"], found["spec"]["containers"]
    assert (main["image"], main["imagePullPolicy"]) == ("registry.test/nnclr:1", "IfNotPresent")
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert main["command"] == ["/kfp-launcher/launch", "--run_id", "1", "--"]
    assert main["args"][:5] == ["python3", "-m", "pipeline.kubeflow.entrypoint", "--component", task]
    trains = task == "Trainer"
    memory = "16Gi" if trains else "8Gi"
    assert main["resources"] == {
        "requests": {"cpu": "4" if trains else "2", "memory": memory},
        "limits": {"memory": memory, **({"nvidia.com/gpu": "2"} if trains else {})},
    }
    volumes = {volume.pop("name"): volume for volume in spec["volumes"]}
    mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in main["volumeMounts"]}
    own = {
        "/tmp": {"emptyDir": {"sizeLimit": "20Gi"}},
        "/dev/shm": {"emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
        "/images": {"persistentVolumeClaim": {"claimName": "images"}},
        "/etc/google": {"secret": {"secretName": "google", "optional": False}},
    }
    if trains:
        own["/checkpoints"] = {"persistentVolumeClaim": {"claimName": "nnclr-checkpoints"}}
    assert mounted == {path: {"emptyDir": {}} for path in manifest.SCRATCH.values()} | own
    assert spec.get("nodeSelector") == ({"pool": "gpu"} if trains else None)
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert spec.get("tolerations") == (tolerations if trains else None)


def test_the_environment_is_that_of_the_image_the_settings_and_the_secrets(compiled):
    image = {"PATH": "/opt/nnclr/bin", "MLFLOW_HOST": "mlflow.mlflow"}
    secrets = {"mlflow": {"password": "x$(PATH)"}}
    found = manifest.environment(pod(compiled, "DataGate", retry=2), image, secrets)
    assert found["PATH"] == "/opt/nnclr/bin"
    assert "HOME" not in found
    # Kubernetes replaces references in values, but not in the contents of Secrets.
    assert found["MLFLOW_TRACKING_URI"] == "http://mlflow.mlflow:5000"
    assert (found["PRICE"], found["MLFLOW_TRACKING_PASSWORD"]) == ("$5", "x$(PATH)")
    assert (found["KFP_POD_NAME"], found["KFP_RETRY_INDEX"], found["CUDA_VISIBLE_DEVICES"]) == ("nnclr-1", "2", "-1")
    assert "CUDA_VISIBLE_DEVICES" not in manifest.environment(pod(compiled, "Trainer"), image, secrets)
    with pytest.raises(manifest.RefusedPod, match="Secret mlflow has no key password"):
        manifest.environment(pod(compiled, "DataGate"), image, {"mlflow": {"user": "x"}})


def test_labels_and_a_volume_group_arrive(compiled):
    container, executor = specs(compiled, "Trainer")
    executor["podMetadata"] = {"labels": {"team": "vision"}, "annotations": {"cost": "42"}}
    found = manifest.pod("Trainer", container, executor, "nnclr-1", [], fs_group=1000)
    assert found["metadata"]["labels"] == {"team": "vision", "pipelines.kubeflow.org/v2_component": "true"}
    assert found["metadata"]["annotations"]["cost"] == "42"
    assert found["spec"]["securityContext"]["fsGroup"] == 1000


@pytest.mark.parametrize(
    ("place", "field"),
    [
        ("platform", "enabledSharedMemory"),
        ("platform", "podAffinity"),
        ("platform.pvcMount", "subPath"),
        ("platform.secretAsEnv", "optional"),
        ("container", "lifecycle"),
        ("container.resources", "resourceDiskRequest"),
    ],
)
def test_a_field_that_a_version_does_not_read_is_an_error(compiled, place, field):
    container, executor = specs(compiled, "Trainer")
    kind, _, inner = place.partition(".")
    message = {"platform": executor, "container": container}[kind]
    if inner:
        message = message[inner]
        message = message[0] if isinstance(message, list) else message
    message[field] = "x"
    with pytest.raises(manifest.UnknownField, match=rf"Trainer\.{place}\.{field} is not read"):
        manifest.pod("Trainer", container, executor, "nnclr-1", [])


def named(name):
    return {"runtimeValue": {"constant": name}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"secretAsVolume": [{"mountPath": "/x", "secretNameParameter": named("images")}]}, "images has several"),
        ({"pvcMount": [{"mountPath": "/x", "pvcNameParameter": named("my.claim")}]}, r"my\.claim has no name"),
        ({"imagePullPolicy": 3}, "imagePullPolicy"),
        ({"nodeSelector": {"labels": {"gpus": 2}}}, "nodeSelector"),
    ],
)
def test_kubernetes_refuses_a_pod(compiled, change, reason):
    container, executor = specs(compiled, "Trainer")
    with pytest.raises(manifest.RefusedPod, match=reason):
        manifest.pod("Trainer", container, executor | change, "nnclr-1", [])


def test_kubernetes_refuses_a_variable_with_two_sources_and_requests_above_limits(compiled):
    container, executor = specs(compiled, "DataGate")
    container["env"].append({"name": "MLFLOW_TRACKING_PASSWORD", "value": "x"})
    with pytest.raises(manifest.RefusedPod, match="MLFLOW_TRACKING_PASSWORD has two sources"):
        manifest.pod("DataGate", container, executor, "nnclr-1", [])
    container, executor = specs(compiled, "DataGate")
    container["resources"]["resourceMemoryLimit"] = "512Mi"
    with pytest.raises(manifest.RefusedPod, match="more memory is requested than the limit 512Mi"):
        manifest.pod("DataGate", container, executor, "nnclr-1", [])
