"""What the launcher of Kubeflow Pipelines hands to a pod and expects back, against what TFX expects and hands back.

Both are JSON: an ExecutorInput, and an ExecutorOutput (kfp's `pipeline_spec.proto`). Sources: tensorflow/tfx#7768, and
`backend/src/v2/component/launcher_v2.go` of kubeflow/pipelines.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

from pipeline.kubeflow.parameters import ENVIRONMENT, PREFIX

# Where the launcher puts inputs, and takes outputs from.
_MOUNTS = {"gs://": "gcs", "s3://": "s3", "minio://": "minio"}
# Another root of these folders than `/`, where there is no container.
ROOT_VARIABLE = "NNCLR_LAUNCHER_ROOT"
_RUNNERS_HERE = ("BundleBasedDirectRunner", "DirectRunner", "FnApiRunner", "PrismRunner")
# An output that the backend adds, of a type that TFX does not know.
_LOGS = "executor-logs"


def prepared(invocation: dict[str, Any], inputs_spec: dict[str, Any], elsewhere: bool = False) -> dict[str, Any]:
    """An ExecutorInput as TFX understands it: artifacts have types and local paths, and TFX knows all outputs.

    Args:
        invocation: as the launcher gives it.
        inputs_spec: the component's declared inputs.
        elsewhere: Beam's workers run on other machines, which see Cloud Storage and not this pod's disk: `gs://` stays.
    """
    place = _in_storage if elsewhere else _local
    inputs, outputs = invocation.get("inputs", {}), invocation.get("outputs", {})
    declared = inputs_spec.get("artifacts", {})
    inputs_here = {
        name: {"artifacts": [place(artifact) | {"type": declared[name]["artifactType"]} for artifact in _of(listed)]}
        for name, listed in inputs.get("artifacts", {}).items()
    }
    outputs_here = {
        name: {"artifacts": [place(artifact) for artifact in _of(listed)]}
        for name, listed in outputs.get("artifacts", {}).items()
        if name != _LOGS
    }
    return {"inputs": inputs | {"artifacts": inputs_here}, "outputs": outputs | {"artifacts": outputs_here}}


def apply_run_parameters(values: dict[str, Any], targets: list[str], environment: dict[str, str]) -> None:
    """Takes a run's parameters out of the parameter values and puts them where they belong.

    Args:
        values: parameter values of an ExecutorInput; changed.
        targets: `NAME=TARGET`, see `parameters.RunParameter`.
        environment: changed too; an empty value changes nothing in it.
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


def handed_back(output: dict[str, Any], invocation: dict[str, Any]) -> dict[str, Any]:
    """An ExecutorOutput as the launcher understands it: artifacts lie where it said.

    Args:
        output: as TFX wrote it.
        invocation: as the launcher gave it.
    """
    given = {
        name: artifact["uri"]
        for name, listed in invocation.get("outputs", {}).get("artifacts", {}).items()
        for artifact in _of(listed)
    }
    artifacts = {
        name: {"artifacts": [artifact | {"uri": given[name]} for artifact in _of(listed)]}
        for name, listed in output.get("artifacts", {}).items()
    }
    return output | {"artifacts": artifacts}


def runs_elsewhere(beam_arguments: list[str]) -> bool:
    """Whether Beam's workers are other machines: Dataflow's, Flink's, Spark's."""
    runners = [argument.partition("=")[2] for argument in beam_arguments if argument.startswith("--runner=")]
    return bool(runners) and runners[-1] not in _RUNNERS_HERE


def local_path(uri: str) -> str:
    """Where the launcher keeps what lies at a URI."""
    for scheme, mount in _MOUNTS.items():
        if uri.startswith(scheme):
            return os.path.join(os.environ.get(ROOT_VARIABLE, "/"), mount, uri.removeprefix(scheme))
    return uri


def is_value(artifact: dict[str, Any]) -> bool:
    """Whether an artifact as the launcher gives it holds a single text, in TFX's way."""
    return artifact.get("type", {}).get("instanceSchema", "").startswith("title: tfx.String\n")


def _of(listed: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return iter(listed.get("artifacts", []))


def _local(artifact: dict[str, Any]) -> dict[str, Any]:
    return artifact | {"uri": local_path(artifact["uri"])}


def _in_storage(artifact: dict[str, Any]) -> dict[str, Any]:
    return artifact if artifact["uri"].startswith("gs://") else _local(artifact)


def _set(tree: dict[str, Any], path: list[str], value: Any) -> None:
    name, *rest = path
    if not rest:
        tree[name] = value
    elif isinstance(tree[name], str):
        # JSON in JSON: TFX's properties hold nothing but scalars.
        inner = json.loads(tree[name])
        _set(inner, rest, value)
        tree[name] = json.dumps(inner)
    else:
        _set(tree[name], rest, value)
