"""The launcher of Kubeflow Pipelines, which every pod starts with: fetches inputs, runs the command, stores outputs.

It always ends with 0 or 1, whatever the command's exit code. Its own lines follow those of the command in the log, and
after them, for a failure, a line of Argo's wrapper that starts with `Error:` as well.

Sources: backend/src/v2/component/launcher_v2.go, backend/src/v2/cmd/launcher-v2/main.go, and logs of real pods.
"""

import copy
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.pipeline.kubeflow import node as nodes
from tests.pipeline.kubeflow.metadata import MetadataStore
from tests.pipeline.kubeflow.node import PlacedPod
from tests.pipeline.kubeflow.storage import Storage

#: The output that holds the log of a pod.
LOGS = "executor-logs"
#: Folder of the files that hold the values of output parameters.
PARAMETERS = "/tmp/kfp/outputs"
_FOLDERS = {"gs": "/gcs", "minio": "/minio", "s3": "/s3"}
# What Argo's wrapper writes when the launcher has ended.
_WRAPPER = 'time="2026-11-26T03:00:00.000Z" level=info msg="sub-process exited" argo=true error="<nil>"'


@dataclass
class Pod:
    """A pod that has ended: one try of a task.

    Attributes:
        task: Name of the task.
        attempt: Number of earlier tries.
        manifest: The pod as Kubernetes knew it.
        code: Exit code of the container; None if the pod was deleted or lost.
        python_code: Exit code of the container's own command, or the negative number of the signal that ended it.
        output: What the command wrote.
        log: The whole log of the container.
        termination_message: What Kubernetes shows as the container's message.
        execution: Number of the execution in the metadata store, with the outputs; None if the pod failed.
    """

    task: str
    attempt: int
    manifest: dict[str, Any]
    code: int | None
    python_code: int
    output: str
    log: str
    termination_message: str
    execution: int | None = None


def local_path(uri: str) -> str:
    """Returns the path at which the launcher keeps an artifact in a pod."""
    scheme, _, key = uri.partition("://")
    return f"{_FOLDERS[scheme]}/{key}"


def run(
    pod: PlacedPod,
    executor_input: dict[str, Any],
    component: pipeline_spec_pb2.ComponentSpec,
    storage: Storage,
    store: MetadataStore,
    disturb: Callable[[PlacedPod], None],
    fresh: bool = False,
) -> Pod:
    """Runs a pod to its end.

    Args:
        pod: The pod, which has not started.
        executor_input: The ExecutorInput as the driver provided it.
        component: The task's component.
        storage: The object store.
        store: Where outputs are recorded.
        disturb: Is called while the command runs, and may end it.
        fresh: Whether Python starts anew.
    """
    given = copy.deepcopy(executor_input)
    for name, entry in given["outputs"]["artifacts"].items():
        for artifact in entry["artifacts"]:
            if name == LOGS:
                # All tries of a task share the URIs of its other outputs.
                artifact["uri"] += f"-{pod.attempt}"
    _prepare(pod, given, storage)
    (main,) = pod.manifest["spec"]["containers"]
    given["outputs"]["outputFile"] = pod.inside(given["outputs"]["outputFile"])
    pod.start([_filled(argument, json.dumps(given)) for argument in main["args"]], fresh)
    try:
        disturb(pod)
    except BaseException:
        pod.lose()
        raise
    python_code, output = pod.wait()
    lines = [_line("I", "main.go:66", "Setting log level to: '1'"), *output.splitlines()]
    code, execution = int(bool(python_code)), None
    if pod.lost:
        # Its launcher as well: nothing is stored.
        code = None
    elif python_code:
        lines += _after_failure(pod, given, python_code, output, storage)
    else:
        _write_log(pod, given, output)
        execution, uploaded = _collect(pod, given, component, storage, store)
        lines += [*uploaded, _line("I", "launcher_v2.go:179", "publish success."), _WRAPPER]
    log = "\n".join(lines)
    return Pod(
        *(pod.task, pod.attempt, pod.manifest, code, python_code, output, log, pod.termination_message(), execution)
    )


def _after_failure(pod: PlacedPod, given: dict[str, Any], python_code: int, output: str, storage: Storage) -> list[str]:
    """Stores the log of a command that has failed, and returns the lines that follow it."""
    reason = f"signal: {_signal_name(-python_code)}" if python_code < 0 else f"exit status {python_code}"
    _write_log(pod, given, output)
    return [
        _line("E", "launcher_v2.go:479", f"Component failed to execute successfully: {reason}"),
        *_upload(pod, {LOGS: given["outputs"]["artifacts"][LOGS]}, storage),
        _line("I", "launcher_v2.go:179", "publish success."),
        _line("F", "main.go:58", f"failed to execute component: {reason}"),
        _WRAPPER,
        "Error: exit status 1",
    ]


def _write_log(pod: PlacedPod, given: dict[str, Any], output: str) -> None:
    pod.on_node(local_path(given["outputs"]["artifacts"][LOGS]["artifacts"][0]["uri"])).write_text(output)


def _prepare(pod: PlacedPod, given: dict[str, Any], storage: Storage) -> None:
    """Fetches the inputs, and creates the folders around the outputs."""
    for entry in given.get("inputs", {}).get("artifacts", {}).values():
        for artifact in entry["artifacts"]:
            storage.download(artifact["uri"], pod.on_node(local_path(artifact["uri"])))
    folders = [PurePosixPath(PARAMETERS)] if given["outputs"].get("parameters") else []
    for parameter in given["outputs"].get("parameters", {}).values():
        parameter["outputFile"] = pod.inside(parameter["outputFile"])
    for entry in given["outputs"]["artifacts"].values():
        folders += [PurePosixPath(local_path(artifact["uri"])).parent for artifact in entry["artifacts"]]
    for folder in folders:
        pod.on_node(str(folder)).mkdir(parents=True, exist_ok=True)
    # The launcher does this as the user of the container.
    for root in (*_FOLDERS.values(), "/tmp"):
        for made in pod.on_node(root).glob("*"):
            nodes.give_to_user(made)


def _filled(argument: str, executor_input: str) -> str:
    assert "{{$" not in argument.replace("{{$}}", ""), f"only the placeholder {{{{$}}}} is imitated: {argument}"
    return argument.replace("{{$}}", executor_input)


def _collect(
    pod: PlacedPod,
    given: dict[str, Any],
    component: pipeline_spec_pb2.ComponentSpec,
    storage: Storage,
    store: MetadataStore,
) -> tuple[int, list[str]]:
    """Stores and records the outputs of a command that has succeeded.

    Returns:
        The number of the execution, and the lines of the log.
    """
    file = pod.on_node(local_path(given["outputs"]["artifacts"][LOGS]["artifacts"][0]["uri"]))
    told = file.parent / "output_metadata.json"
    # Strictly: the launcher refuses what it does not know. A command without outputs need not write the file.
    written = json_format.Parse(told.read_text() if told.exists() else "{}", pipeline_spec_pb2.ExecutorOutput())
    parameters, artifacts = {}, {}
    for name, definition in component.output_definitions.parameters.items():
        assert definition.parameter_type == pipeline_spec_pb2.ParameterType.STRING
        if name in written.parameter_values:
            parameters[name] = written.parameter_values[name].string_value
        else:
            parameters[name] = pod.on_node(f"{PARAMETERS}/{name}").read_text()
    lines = _upload(pod, given["outputs"]["artifacts"], storage)
    for name, entry in given["outputs"]["artifacts"].items():
        (artifact,) = entry["artifacts"]
        for told in written.artifacts[name].artifacts if name in written.artifacts else ():
            # The launcher records a URI of another kind and stores nothing for it.
            assert told.uri == artifact["uri"] or told.uri.partition("://")[0] not in _FOLDERS, told.uri
            metadata = artifact.get("metadata", {}) | json_format.MessageToDict(told.metadata)
            artifact = artifact | {"uri": told.uri, "metadata": metadata}
        artifacts[name] = store.record(name, artifact)
    return store.publish(pod.task, artifacts, parameters), lines


def _upload(pod: PlacedPod, outputs: dict[str, Any], storage: Storage) -> list[str]:
    lines = []
    for name, entry in outputs.items():
        for artifact in entry["artifacts"]:
            path = local_path(artifact["uri"])
            try:
                keys = storage.upload(pod.on_node(path), artifact["uri"])
            except FileNotFoundError:
                lines.append(_line("W", "launcher_v2.go:827", f'Local filepath "{path}" does not exist'))
                continue
            lines += [_line("I", "object_store.go:163", f'uploadFile(blobFilePath="{key}")') for key in keys]
            lines.append(_line("I", "launcher_v2.go:792", f"outputArtifact in uploadOutputArtifacts call: {name}"))
    return lines


def _line(severity: str, place: str, text: str) -> str:
    return f"{severity}1126 03:00:00.000000      14 {place}] {text}"


def _signal_name(number: int) -> str:
    """Returns how Go names a signal."""
    return {signal.SIGKILL: "killed", signal.SIGTERM: "terminated"}.get(signal.Signals(number), f"signal {number}")
