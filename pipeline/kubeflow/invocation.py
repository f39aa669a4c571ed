"""Translates between the launcher of Kubeflow Pipelines and TFX.

The launcher gives a pod an ExecutorInput and expects an ExecutorOutput, both as JSON (kfp's `pipeline_spec.proto`). TFX
reads and writes the same messages, but needs artifacts with types and local paths. Sources: tensorflow/tfx#7768, and
`backend/src/v2/component/launcher_v2.go` of kubeflow/pipelines.
"""

import json
import os
from typing import Any

from pipeline.kubeflow.parameters import ENVIRONMENT, PREFIX

# A message of the launcher: its shape is kfp's, not ours.
Message = dict[str, Any]

# The folders to which the launcher downloads inputs, and from which it uploads outputs.
_MOUNTS = {"gs://": "gcs", "s3://": "s3", "minio://": "minio"}
#: Names another root of these folders than `/`, for tests without a container.
ROOT_VARIABLE = "NNCLR_LAUNCHER_ROOT"
# Types of outputs that TFX does not know: those of `page_outputs`, and the logs, which the backend adds.
_KFP_TYPES = "system."


def to_tfx(executor_input: Message, inputs_spec: Message, remote: bool = False) -> Message:
    """Translates an ExecutorInput for TFX: artifacts get types and local paths, and outputs of KFP's types are dropped.

    Args:
        executor_input: The launcher's ExecutorInput.
        inputs_spec: The component's declared inputs.
        remote: Whether Beam's workers are other machines, which see Cloud Storage but not this pod's disk. If so,
            artifacts keep their `gs://` URIs.
    """
    inputs, outputs = executor_input.get("inputs", {}), executor_input.get("outputs", {})
    declared = inputs_spec.get("artifacts", {})
    typed_inputs = {
        name: {
            "artifacts": [
                _located(artifact, remote) | {"type": declared[name]["artifactType"]} for artifact in _artifacts(entry)
            ]
        }
        for name, entry in inputs.get("artifacts", {}).items()
    }
    known_outputs = {
        name: {"artifacts": [_located(artifact, remote) for artifact in _artifacts(entry)]}
        for name, entry in outputs.get("artifacts", {}).items()
        if not any(_is_of_kfp(artifact) for artifact in _artifacts(entry))
    }
    return {"inputs": inputs | {"artifacts": typed_inputs}, "outputs": outputs | {"artifacts": known_outputs}}


def to_kfp(executor_output: Message, executor_input: Message) -> Message:
    """Translates an ExecutorOutput for the launcher: artifacts get the URIs that the launcher gave them.

    Args:
        executor_output: TFX's ExecutorOutput.
        executor_input: The launcher's ExecutorInput.
    """
    uris = output_uris(executor_input)
    artifacts = {
        name: {"artifacts": [artifact | {"uri": uris[name]} for artifact in _artifacts(entry)]}
        for name, entry in executor_output.get("artifacts", {}).items()
    }
    return executor_output | {"artifacts": artifacts}


def output_uris(executor_input: Message) -> dict[str, str]:
    """Returns the URI of each output of an ExecutorInput, by name."""
    return {
        name: artifact["uri"]
        for name, entry in executor_input.get("outputs", {}).get("artifacts", {}).items()
        for artifact in _artifacts(entry)
    }


def apply_run_parameters(values: dict[str, Any], targets: list[str], environment: dict[str, str]) -> None:
    """Moves a run's parameters from the parameter values to their targets.

    Args:
        values: Parameter values of an ExecutorInput, which are changed.
        targets: `NAME=TARGET` for each parameter, see `parameters.RunParameter`.
        environment: Environment variables, which are changed. An empty parameter leaves its variable as it is.
    """
    for entry in targets:
        name, _, target = entry.partition("=")
        value = values[f"{PREFIX}{name}"]
        if not target.startswith(ENVIRONMENT):
            _set(values, target.split("."), value)
        elif value:
            environment[target.removeprefix(ENVIRONMENT)] = value
    for name in [name for name in values if name.startswith(PREFIX)]:
        del values[name]


def local_path(uri: str) -> str:
    """Returns the local path at which the launcher keeps an artifact."""
    for scheme, mount in _MOUNTS.items():
        if uri.startswith(scheme):
            return os.path.join(os.environ.get(ROOT_VARIABLE, "/"), mount, uri.removeprefix(scheme))
    return uri


def is_value(artifact: Message) -> bool:
    """Returns whether an artifact of the launcher holds a single string, as TFX's values do."""
    return artifact.get("type", {}).get("instanceSchema", "").startswith("title: tfx.String\n")


def _is_of_kfp(artifact: Message) -> bool:
    return artifact.get("type", {}).get("schemaTitle", "").startswith(_KFP_TYPES)


def _artifacts(entry: Message) -> list[Message]:
    return entry.get("artifacts", [])


def _located(artifact: Message, remote: bool) -> Message:
    if remote and artifact["uri"].startswith("gs://"):
        return artifact
    return artifact | {"uri": local_path(artifact["uri"])}


def _set(tree: dict[str, Any], path: list[str], value: Any) -> None:
    name, *rest = path
    if not rest:
        tree[name] = value
    elif isinstance(tree[name], str):
        # TFX's execution properties are scalars: a text on the way is JSON.
        inner = json.loads(tree[name])
        _set(inner, rest, value)
        tree[name] = json.dumps(inner)
    else:
        _set(tree[name], rest, value)
