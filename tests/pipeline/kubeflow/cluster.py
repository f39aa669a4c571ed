"""A compiled pipeline, executed as Kubeflow Pipelines executes it, with processes in the place of pods.

What the driver does (arguments, executor input, placeholders) is done by kfp's own code for local runs. What the
launcher does is done here, after `launcher_v2.go`: artifacts are fetched to, and stored from, folders that only this
pod sees, come without their types, and `executor-logs` is asked for as well.
"""

import copy
import os
import re
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp import dsl
from kfp.local import executor_input_utils, graph_utils, io, placeholder_utils
from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils
from kfp.local.utils import struct_to_executor_spec
from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline.kubeflow.invocation import ROOT_VARIABLE
from tests.interpreters import Interpreter, Process
from tests.pipeline.kubeflow.argo import Failure, Retries, is_retried

_SCHEME, _BUCKET = "minio://", "mlpipeline/v2/artifacts"


@dataclass
class Pod:
    """One try of a task: its id, exit code and log."""

    task: str
    code: int
    log: str


class PodFailed(AssertionError):
    """A task failed for good."""


@dataclass
class Cluster:
    """Runs pipelines.

    Attributes:
        root: folder for everything.
        image: interpreter of the image, with nnclr in it.
        environment: of every pod.
        disturb: called with each running process and the try's number, and may kill it.
        retries: what the installation retries.
        pods: what ran, in order.
    """

    root: Path
    image: Interpreter
    environment: dict[str, str]
    disturb: Callable[[str, Process, int], None] | None = None
    retries: Retries = Retries.KFP_2_14_TO_2_16
    pods: list[Pod] = field(default_factory=list)

    def run(self, package: Path, parameters: dict[str, Any]) -> dict[str, dict[str, Path]]:
        """Runs a compiled pipeline and returns the stored outputs by task and name.

        Raises:
            PodFailed: a task failed as often as its retry policy allows, and once more.
        """
        document = next(yaml.safe_load_all(package.read_text()))
        spec = json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
        unknown = parameters.keys() - spec.root.input_definitions.parameters.keys()
        assert not unknown, f"the backend refuses unknown parameters: {unknown}"
        given = OrchestratorUtils.join_user_inputs_and_defaults(parameters, spec.root.input_definitions)
        return self._dag(spec, spec.root, given, str(uuid.uuid4()))

    def _dag(self, spec, component, given: dict[str, Any], run_id: str) -> dict[str, dict[str, Path]]:
        store = io.IOStore()
        for name, value in given.items():
            store.put_parent_input(name, value)
        stored: dict[str, dict[str, Path]] = {}
        order = graph_utils.topological_sort_tasks(component.dag.tasks)
        while order:
            name = order.pop()
            task = component.dag.tasks[name]
            implementation = spec.components[task.component_ref.name]
            arguments = OrchestratorUtils.make_task_arguments(task.inputs, store)
            declared = implementation.input_definitions.parameters.keys()
            assert arguments.keys() - implementation.input_definitions.artifacts.keys() == declared
            if not _triggered(task.trigger_policy.condition, arguments):
                continue
            if implementation.HasField("dag"):
                stored |= self._dag(spec, implementation, arguments, run_id)
                continue
            container = struct_to_executor_spec(spec.deployment_spec["executors"][implementation.executor_label])
            outputs = self._with_retries(name, task, implementation, container.container, arguments, run_id)
            for key, value in outputs.items():
                store.put_task_output(name, key, value)
            stored[name] = {
                key: self._stored(value.uri) for key, value in outputs.items() if isinstance(value, dsl.Artifact)
            }
        return stored

    def _with_retries(self, name, task, component, container, arguments, run_id) -> dict[str, Any]:
        started, attempts, failure = time.monotonic(), 0, Failure.CONTAINER
        while not attempts or is_retried(
            task.retry_policy, self.retries, failure, attempts, time.monotonic() - started
        ):
            outputs = self._pod(name, component, container, arguments, run_id, attempts)
            if outputs is not None:
                return outputs
            attempts += 1
            # Only a signal to the whole group of processes ends Python so: that of a pod that is deleted.
            failure = Failure.POD if self.pods[-1].code < 0 else Failure.CONTAINER
        raise PodFailed(f"{name} failed: {self.pods[-1].log[-3000:]}")

    def _pod(self, name, component, container, arguments, run_id, attempt) -> dict[str, Any] | None:
        disk = self.root / "pods" / f"{name}-{len(self.pods)}"
        disk.mkdir(parents=True)
        task_root = f"{_SCHEME}{_BUCKET}/{run_id}/{name}/{attempt}"
        executor_input = executor_input_utils.construct_executor_input(
            component, arguments, task_root, block_input_artifact=False
        )
        executor_input.outputs.output_file = str(disk / "output_metadata.json")
        handed = executor_input_utils.executor_input_to_dict(executor_input, component)
        untyped = {"instanceSchema": ""}
        for listed in handed.get("inputs", {}).get("artifacts", {}).values():
            for artifact in listed["artifacts"]:
                artifact["type"] = untyped
                shutil.copytree(self._stored(artifact["uri"]), self._on_disk(disk, artifact["uri"]))
        handed["outputs"].setdefault("artifacts", {})
        declared = list(handed["outputs"]["artifacts"])
        handed["outputs"]["artifacts"]["executor-logs"] = {
            "artifacts": [{"uri": f"{task_root}/executor-logs", "type": {"schemaTitle": "system.Artifact"}}]
        }
        command = placeholder_utils.replace_placeholders(
            full_command=[*container.command, *container.args],
            executor_input_dict=copy.deepcopy(handed),
            pipeline_resource_name="run",
            task_resource_name=name,
            pipeline_root=f"{_SCHEME}{_BUCKET}",
            unique_pipeline_id=run_id,
        )
        code, log = self._process(name, command, container, disk, attempt)
        self.pods.append(Pod(name, code, log))
        if code:
            return None
        # Strictly: what the backend does not know, it does not take.
        text = (disk / "output_metadata.json").read_text()
        output = json_format.Parse(text, pipeline_spec_pb2.ExecutorOutput())
        found: dict[str, Any] = {}
        for key, definition in component.output_definitions.parameters.items():
            assert definition.parameter_type == pipeline_spec_pb2.ParameterType.STRING
            found[key] = output.parameter_values[key].string_value
        for key in declared:
            (artifact,) = output.artifacts[key].artifacts
            (asked,) = handed["outputs"]["artifacts"][key]["artifacts"]
            place, kept = self._on_disk(disk, asked["uri"]), self._stored(asked["uri"])
            kept.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir():
                shutil.copytree(place, kept)
            elif place.exists():
                shutil.copyfile(place, kept)
            if key not in found:
                metadata = json_format.MessageToDict(artifact.metadata)
                found[key] = dsl.Artifact(name=key, uri=artifact.uri, metadata=metadata)
        shutil.rmtree(disk)
        return found

    def _process(self, name, command, container, disk, attempt) -> tuple[int, str]:
        program, *arguments = command
        assert program in ("python", "python3"), command
        output = tempfile.TemporaryFile()
        process = self.image.start(
            *arguments,
            cwd=disk,
            environment={
                **{key: os.environ[key] for key in ("HOME", "LANG") if key in os.environ},
                **self.environment,
                **{variable.name: variable.value for variable in container.env},
                "PATH": f"{self.image.python.parent}:{os.defpath}",
                ROOT_VARIABLE: str(disk),
            },
            stdout=output,
            stderr=output,
            new_session=True,
        )
        try:
            if self.disturb:
                self.disturb(name, process, attempt)
            log, _ = process.communicate(timeout=600)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, log

    def _stored(self, uri: str) -> Path:
        return self.root / "storage" / uri.removeprefix(_SCHEME)

    @staticmethod
    def _on_disk(disk: Path, uri: str) -> Path:
        return disk / "minio" / uri.removeprefix(_SCHEME)


def _triggered(condition: str, arguments: dict[str, Any]) -> bool:
    """Evaluates a condition of the only form that is used; the driver takes any expression of CEL."""
    if not condition:
        return True
    match = re.fullmatch(r"inputs\.parameter_values\['([^']+)'\] == '([^']*)'", condition)
    assert match, condition
    return arguments[match[1]] == match[2]
