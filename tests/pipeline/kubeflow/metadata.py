"""The metadata store and the cache of Kubeflow Pipelines, for as much of them as shows in the pods.

An artifact gets a number when it is recorded, and this number is its name wherever it is an input. The cache finds an
execution by a fingerprint within one pipeline. So a task whose inputs come from a cached task can be cached as well,
and one whose inputs were made again cannot, even if their contents are equal.

Sources, below backend/src/v2 of kubeflow/pipelines: metadata/client.go and converter.go, driver/cache.go, and
cacheutils/cache.go.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from kfp import dsl

# What the installation tells about its storage, with every artifact.
_SESSION = {
    "Provider": "minio",
    "Params": {
        "endpoint": "minio-service.kubeflow:9000",
        "fromEnv": "false",
        "secretName": "mlpipeline-minio-artifact",
    },
}


@dataclass
class Execution:
    """A task that succeeded: its outputs by name, which are artifacts or values of parameters."""

    task: str
    outputs: dict[str, Any]


@dataclass
class MetadataStore:
    """Records artifacts, and executions that later runs may reuse.

    Attributes:
        artifacts: all artifacts by their numbers, which are their names.
    """

    artifacts: dict[str, dsl.Artifact] = field(default_factory=dict)
    _executions: dict[tuple[str, str], Execution] = field(default_factory=dict)

    def record(self, output: str, uri: str, metadata: dict[str, Any]) -> dsl.Artifact:
        """Records an artifact and returns it as it will be given to other tasks.

        Args:
            output: Name of the output.
            uri: Where the artifact is stored.
            metadata: Metadata that the executor wrote.
        """
        number = str(len(self.artifacts) + 1)
        recorded = {name: _recorded(value) for name, value in metadata.items()}
        recorded.setdefault("display_name", output)
        recorded.setdefault("store_session_info", json.dumps(_SESSION, separators=(",", ":")))
        self.artifacts[number] = dsl.Artifact(name=number, uri=uri, metadata=recorded)
        return self.artifacts[number]

    def reusable(self, pipeline: str, fingerprint: str) -> Execution | None:
        """Returns the newest execution with a fingerprint."""
        return self._executions.get((pipeline, fingerprint))

    def keep(self, pipeline: str, fingerprint: str, execution: Execution) -> None:
        """Lets later runs of the pipeline reuse an execution."""
        self._executions[pipeline, fingerprint] = execution


def fingerprint(
    executor_input: dict[str, Any], output_types: dict[str, str], container: dict[str, Any], claims: list[str]
) -> str:
    """Returns what an execution must have in common with an earlier one to be replaced by it.

    Args:
        executor_input: The ExecutorInput as JSON, with the values of this run.
        output_types: Types of the output parameters.
        container: The container spec, with its placeholders.
        claims: Names of the PersistentVolumeClaims that the pod mounts.
    """
    inputs = executor_input.get("inputs", {})
    outputs = executor_input["outputs"].get("artifacts", {})
    key = {
        "inputArtifacts": {
            name: [artifact["name"] for artifact in entry["artifacts"]]
            for name, entry in inputs.get("artifacts", {}).items()
        },
        "inputParameters": inputs.get("parameterValues", {}),
        # All but their URIs, which are new in each run.
        "outputArtifacts": {
            name: {field: value for field, value in entry["artifacts"][0].items() if field != "uri"}
            for name, entry in outputs.items()
        },
        "outputParameters": output_types,
        "command": [*container["command"], *container.get("args", [])],
        "image": container["image"],
        "claims": sorted(set(claims)),
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _recorded(value: Any) -> Any:
    """Returns a value as it comes back from the store, which has no booleans and wraps lists and structures."""
    match value:
        case bool():
            return int(value)
        case list():
            return {"list": value}
        case dict():
            return {"struct": value}
    return value
