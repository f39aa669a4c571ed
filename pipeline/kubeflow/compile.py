"""Compiles the pipeline for Kubeflow Pipelines with TFX, and adds resources, retries, parameters and pod settings."""

import json
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp import dsl
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig

from components.linear_probe_evaluator.config import REFERENCES
from pipeline.config import Settings
from pipeline.config.kubeflow import (
    CHECKPOINTS,
    NOTIFIER,
    SCRATCH,
    SHARED_MEMORY,
    TRAINER,
    KubeflowSettings,
    can_reach,
)
from pipeline.dag import create_pipeline
from pipeline.kubeflow import exit_handler, page_outputs, skip_unchanged
from pipeline.kubeflow.parameters import PREFIX, RunParameter, run_parameters
from trainer import aside
from trainer.errors import SettingsError

_COMMAND = ["python3", "-m", "pipeline.kubeflow.entrypoint"]
# Their inputs or effects lie outside of the pipeline, and no parameter changes when these do.
_NEVER_CACHED = (skip_unchanged.RESOLVER, "RegistryPusher")
# Argo makes this the deadline of every attempt, counted from the start of the first one: it must exceed the whole time
# that a step may take with all its attempts. Without it, Kubeflow Pipelines 2.14 and newer write 0, which forbids
# retries.
_RETRY_DEADLINE = "2592000s"


def compile_pipeline(settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the pipeline spec (schema 2.1) and the platform spec of the same pipeline that runs locally.

    Args:
        settings: All settings, which are also the defaults of the run parameters.

    Raises:
        SettingsError: If the steps cannot read the images, or would lack the address of a receiver of notifications.
    """
    cluster = settings.kubeflow
    _require_readable(settings)
    exit_handler.require_variables(settings)
    if cluster.step(TRAINER).gpus and settings.trainer.devices == "auto":
        # A step that asks for GPUs must not train on a CPU, for instance with the image without CUDA.
        settings = settings.model_copy(update={"trainer": settings.trainer.model_copy(update={"devices": "gpu"})})
    pipeline = create_pipeline(
        settings,
        # The pods see the data; this machine may not.
        data=None,
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        pipeline_root=cluster.pipeline_root or "",
        # A pod has no embedded registry.
        registry_directory="",
        checkpoint_root=cluster.checkpoints,
    )
    runner = KubeflowV2DagRunner(
        KubeflowV2DagRunnerConfig(default_image=cluster.image, default_commands=_COMMAND, use_pipeline_spec_2_1=True)
    )
    spec = runner.run(pipeline, write_out=False)["pipelineSpec"]
    # TFX writes the root into a runtime configuration, which is not part of the package.
    if cluster.pipeline_root:
        spec["defaultPipelineRoot"] = cluster.pipeline_root
    page_outputs.declare(spec)
    for task in _tasks(spec):
        _configure(spec, task, cluster)
    for parameter in run_parameters(settings, {task: _constants(spec, task) for task in _tasks(spec)}):
        _add_run_parameter(spec, parameter)
    pods = {_executor(spec, task): _pod(task, cluster) for task in sorted(_tasks(spec))}
    skip_unchanged.nest(spec)
    if settings.notify:
        container = {"image": cluster.image, "command": ["python3", "-m", "pipeline.kubeflow.notifier"]}
        exit_handler.add(spec, settings, container | _resources_and_variables(NOTIFIER, cluster))
        pods[exit_handler.EXECUTOR] = _pod(NOTIFIER, cluster)
    return spec, {"platforms": {"kubernetes": {"deploymentSpec": {"executors": pods}}}}


def _require_readable(settings: Settings) -> None:
    paths = [
        ("data.source", settings.data.source),
        ("data.exclude", settings.data.exclude),
        ("evaluator.data", settings.evaluator.data),
        *(("trainer.encoder", path) for path in settings.trainer.encoder.paths),
        *((REFERENCES, path) for network in settings.evaluator.references.pretrained for path in network.paths),
    ]
    for name, path in paths:
        if path and not can_reach(path, settings.kubeflow.volumes.values()):
            raise SettingsError(
                f"{name} is {path}, which the steps cannot read: name a gs:// or s3:// URI, or mount the "
                "PersistentVolumeClaim that holds it in kubeflow.volumes (by its name, the path) and name a "
                "folder below that path."
            )


def write(spec: dict[str, Any], platform: dict[str, Any], path: Path) -> None:
    """Writes the pipeline spec and the platform spec as one YAML file, which Kubeflow Pipelines accepts."""
    unfinished = Path(aside.beside(str(path)))
    unfinished.write_text(to_yaml(spec, platform), encoding="utf-8")
    unfinished.replace(path)


def to_yaml(spec: dict[str, Any], platform: dict[str, Any]) -> str:
    """Returns the pipeline spec and the platform spec as two YAML documents."""
    return yaml.safe_dump_all([spec, platform], sort_keys=True, width=120, allow_unicode=True)


def _tasks(spec: dict[str, Any]) -> dict[str, Any]:
    """Returns the tasks by name, before they are nested."""
    return spec["root"]["dag"]["tasks"]


def _executor(spec: dict[str, Any], task: str) -> str:
    return spec["components"][task]["executorLabel"]


def _container(spec: dict[str, Any], task: str) -> dict[str, Any]:
    return spec["deploymentSpec"]["executors"][_executor(spec, task)]["container"]


def _constants(spec: dict[str, Any], task: str) -> dict[str, str]:
    """Returns the execution properties of a task whose values are known now."""
    given = _tasks(spec)[task].get("inputs", {}).get("parameters", {})
    return {name: value["runtimeValue"]["constant"] for name, value in given.items() if "runtimeValue" in value}


def _configure(spec: dict[str, Any], task: str, cluster: KubeflowSettings) -> None:
    container, step = _container(spec, task), cluster.step(task)
    container["args"] = ["--component", task, *container["args"]]
    container |= _resources_and_variables(task, cluster)
    _tasks(spec)[task]["cachingOptions"] = {} if task in _NEVER_CACHED else {"enableCache": True}
    if step.retries:
        _tasks(spec)[task]["retryPolicy"] = {
            "maxRetryCount": step.retries,
            "backoffDuration": "30s",
            "backoffFactor": 2.0,
            "backoffMaxDuration": _RETRY_DEADLINE,
        }


def _resources_and_variables(task: str, cluster: KubeflowSettings) -> dict[str, Any]:
    """Returns these fields of a task's container."""
    step = cluster.step(task)
    resources: dict[str, Any] = {
        "resourceCpuRequest": step.cpu,
        "resourceMemoryRequest": step.memory,
        "resourceMemoryLimit": step.memory,
    }
    if step.gpus:
        resources["accelerator"] = {"resourceType": "nvidia.com/gpu", "resourceCount": str(step.gpus)}
    environment = dict(cluster.environment)
    if task != TRAINER and not step.gpus:
        # Otherwise TensorFlow would occupy the whole memory of a GPU that the pod sees without having asked for it.
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    return {"resources": resources, "env": [{"name": name, "value": value} for name, value in environment.items()]}


def _add_run_parameter(spec: dict[str, Any], parameter: RunParameter) -> None:
    root = spec["root"].setdefault("inputDefinitions", {}).setdefault("parameters", {})
    root[parameter.name] = parameter.as_input()
    name = f"{PREFIX}{parameter.name}"
    for task, target in parameter.targets.items():
        inputs = spec["components"][task].setdefault("inputDefinitions", {}).setdefault("parameters", {})
        inputs[name] = {"parameterType": parameter.type}
        given = _tasks(spec)[task].setdefault("inputs", {}).setdefault("parameters", {})
        given[name] = {"componentInputParameter": parameter.name}
        _container(spec, task)["args"] += ["--run_parameter", f"{parameter.name}={target}"]


def _pod(task: str, cluster: KubeflowSettings) -> dict[str, Any]:
    step = cluster.step(task)
    config = kubernetes.KubernetesExecutorConfig(
        empty_dir_mounts=[
            kubernetes.EmptyDirMount(volume_name="scratch", mount_path=SCRATCH, size_limit=cluster.scratch),
            # No version of Kubeflow Pipelines reads the message EnabledSharedMemory.
            kubernetes.EmptyDirMount(
                volume_name="shm", mount_path=SHARED_MEMORY, medium="Memory", size_limit=cluster.shared_memory
            ),
        ],
        pvc_mount=[_claim(name, path) for name, path in cluster.volumes.items()],
        secret_as_volume=[
            kubernetes.SecretAsVolume(secret_name=secret, secret_name_parameter=_constant(secret), mount_path=path)
            for secret, path in cluster.secret_files.items()
        ],
        image_pull_policy=cluster.image_pull_policy or "",
        image_pull_secret=[
            kubernetes.ImagePullSecret(secret_name=secret, secret_name_parameter=_constant(secret))
            for secret in cluster.image_pull_secrets
        ],
        secret_as_env=[
            kubernetes.SecretAsEnv(
                secret_name=secret,
                secret_name_parameter=_constant(secret),
                key_to_env=[
                    kubernetes.SecretAsEnv.SecretKeyToEnvMap(secret_key=key, env_var=variable)
                    for key, variable in keys.items()
                ],
            )
            for secret, keys in cluster.secrets.items()
        ],
        tolerations=[
            kubernetes.Toleration(**toleration.model_dump(exclude_none=True)) for toleration in step.tolerations
        ],
        active_deadline_seconds=step.timeout_seconds or 0,
    )
    # An empty message would be part of the compiled pipeline, and make the backend rename Argo's templates.
    if step.node_selector:
        config.node_selector.labels.update(step.node_selector)
    if cluster.pod_labels or cluster.pod_annotations:
        config.pod_metadata.labels.update(cluster.pod_labels)
        config.pod_metadata.annotations.update(cluster.pod_annotations)
    if task == TRAINER and cluster.trainer_volume:
        config.pvc_mount.append(_claim(cluster.trainer_volume, CHECKPOINTS))
    return json.loads(json_format.MessageToJson(config))


def _claim(name: str, path: str) -> Any:
    """Mounts a PersistentVolumeClaim."""
    return kubernetes.PvcMount(constant=name, pvc_name_parameter=_constant(name), mount_path=path)


def _constant(value: str) -> Any:
    return {"runtime_value": {"constant": {"string_value": value}}}
