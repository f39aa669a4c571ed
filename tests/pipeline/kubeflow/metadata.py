"""The metadata store of Kubeflow Pipelines, which is a real one of ML Metadata, and the cache.

An artifact gets a number when it is recorded, and this number is its name wherever it is an input. The cache finds an
execution by a fingerprint within one pipeline. So a task whose inputs come from a cached task can be cached as well,
and one whose inputs were made again cannot, even if their contents are equal.

Sources, below backend/src/v2 of kubeflow/pipelines: metadata/client.go and converter.go, driver/cache.go, and
cacheutils/cache.go.
"""

import hashlib
import json
import threading
from typing import Any

import ml_metadata
import yaml
from google.protobuf import json_format
from kfp import dsl
from ml_metadata.proto import metadata_store_pb2 as mlmd

# What the installation tells about its storage, with every artifact.
_SESSION = {
    "Provider": "minio",
    "Params": {
        "endpoint": "minio-service.kubeflow:9000",
        "fromEnv": "false",
        "secretName": "mlpipeline-minio-artifact",
    },
}
_EXECUTION_TYPE = "system.ContainerExecution"


class MetadataStore:
    """Records artifacts, and executions that later runs may reuse. Tasks of a run use it at the same time."""

    def __init__(self) -> None:
        config = mlmd.ConnectionConfig()
        config.fake_database.SetInParent()
        self._store = ml_metadata.MetadataStore(config)
        self._lock = threading.Lock()
        # Which executions may be reused: the table `tasks` of the API server.
        self._reusable: dict[tuple[str, str], int] = {}

    def record(self, output: str, artifact: dict[str, Any]) -> dsl.Artifact:
        """Records an artifact and returns it as it will be given to other tasks.

        Args:
            output: Name of the output.
            artifact: A RuntimeArtifact as JSON, with its type, URI and metadata.

        Raises:
            ml_metadata.errors.StatusError: The store refuses the metadata, such as a number that is not finite.
        """
        properties = {name: _property(value) for name, value in artifact.get("metadata", {}).items()}
        properties.setdefault("display_name", _property(output))
        properties.setdefault("store_session_info", _property(json.dumps(_SESSION, separators=(",", ":"))))
        with self._lock:
            type_id = self._store.put_artifact_type(mlmd.ArtifactType(name=_type_name(artifact["type"])))
            recorded = mlmd.Artifact(
                type_id=type_id, uri=artifact["uri"], state=mlmd.Artifact.LIVE, custom_properties=properties
            )
            (number,) = self._store.put_artifacts([recorded])
            (recorded,) = self._store.get_artifacts_by_id([number])
        return _as_input(recorded)

    def publish(self, task: str, artifacts: dict[str, dsl.Artifact], parameters: dict[str, str]) -> int:
        """Records a task that has succeeded, and returns the execution's number.

        Args:
            task: Name of the task.
            artifacts: Its recorded output artifacts by the outputs' names.
            parameters: Values of its output parameters by their names.
        """
        execution = mlmd.Execution(last_known_state=mlmd.Execution.COMPLETE)
        execution.custom_properties["task_name"].string_value = task
        outputs = execution.custom_properties["outputs"].struct_value
        # The store aborts the process for a value that is not set, which an empty structure is until here.
        outputs.SetInParent()
        outputs.update(parameters)
        events = []
        for name, artifact in artifacts.items():
            event = mlmd.Event(type=mlmd.Event.OUTPUT, artifact_id=int(artifact.name))
            event.path.steps.add().key = name
            events.append(event)
        with self._lock:
            execution.type_id = self._store.put_execution_type(mlmd.ExecutionType(name=_EXECUTION_TYPE))
            (number,) = self._store.put_executions([execution])
            for event in events:
                event.execution_id = number
            self._store.put_events(events)
        return number

    def outputs(self, execution: int) -> dict[str, Any]:
        """Returns the outputs of an execution by their names: values of parameters, and other outputs' artifacts."""
        with self._lock:
            (recorded,) = self._store.get_executions_by_id([execution])
            events = self._store.get_events_by_execution_ids([execution])
            found = self._store.get_artifacts_by_id([event.artifact_id for event in events])
        artifacts = {artifact.id: _as_input(artifact) for artifact in found}
        by_name = {event.path.steps[0].key: artifacts[event.artifact_id] for event in events}
        return {**by_name, **json_format.MessageToDict(recorded.custom_properties["outputs"].struct_value)}

    def reusable(self, pipeline: str, fingerprint: str) -> int | None:
        """Returns the newest execution with a fingerprint."""
        return self._reusable.get((pipeline, fingerprint))

    def keep(self, pipeline: str, fingerprint: str, execution: int) -> None:
        """Lets later runs of the pipeline reuse an execution."""
        self._reusable[pipeline, fingerprint] = execution


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


def _type_name(described: dict[str, str]) -> str:
    """Returns the name under which the store knows an artifact's type."""
    return described.get("schemaTitle") or yaml.safe_load(described["instanceSchema"])["title"]


def _property(value: Any) -> mlmd.Value:
    """Converts a value for the store, which has no booleans and wraps lists and structures.

    Raises:
        TypeError: The value is null, for which the launcher fails.
    """
    match value:
        case bool():
            return mlmd.Value(int_value=int(value))
        case int() | float():
            return mlmd.Value(double_value=value)
        case str():
            return mlmd.Value(string_value=value)
        case list() | dict():
            wrapped = mlmd.Value()
            wrapped.struct_value.update({"list" if isinstance(value, list) else "struct": value})
            return wrapped
    raise TypeError(f"unknown/unsupported value type: {value!r}")


def _as_input(artifact: mlmd.Artifact) -> dsl.Artifact:
    """Returns a recorded artifact as other tasks get it."""
    metadata = {}
    for name, value in artifact.custom_properties.items():
        kind = value.WhichOneof("value")
        found = getattr(value, kind)
        metadata[name] = json_format.MessageToDict(found) if kind == "struct_value" else found
    return dsl.Artifact(name=str(artifact.id), uri=artifact.uri, metadata=metadata)
