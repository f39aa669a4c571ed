"""A compiled pipeline, executed as Kubeflow Pipelines 2.16 executes it, with processes in the place of pods.

The modules beside this one each imitate one part: `manifest` the pod that the driver describes, `node` the container
that Kubernetes starts, `launcher` the program in it, `storage` the object store, `metadata` the metadata store and the
cache, `argo` the retries. kfp's own code for local runs resolves the arguments of the tasks.

What is still kinder than a cluster:

- Pods fork from an interpreter that has already imported nnclr, as root and in the machine's own file system. Only
  `test_a_fresh_interpreter_starts_in_a_pod` imports in a pod.
- Pods share the machine's network, so that services are found on 127.0.0.1, and its process ids. Resources and the size
  of `emptyDir` volumes on disk are not limited, but the size of those in memory is.
- The kernel, the system's libraries and the architecture are the machine's, not those of the image.
- Storage accepts any credentials, and neither it nor the metadata store has latency or failures.
- Secrets, claims and images exist or not: binding, access modes, pulling and scheduling are not imitated.
- In a deleted pod, Python always has a second between SIGTERM and SIGKILL. On a cluster, it has a second at most.
- A try that was deleted leaves nothing in the object store. On a cluster, the launcher may be cut in an upload.
- The cache never forgets, and the objects of a cached execution are always there.
- Conditions are of one form only, and the only placeholder in arguments is `{{$}}`.
- The backoff between tries takes no time.
- Details are those of version 2.16.1. Version 2.14.4, for instance, wants the executor's output in `/tmp`.

Only a real cluster shows that the API server and Argo accept the workflow, which admission controllers, quotas and
network policies apply, what RBAC allows, that GPUs arrive, how the user interface shows a run, and which pods a node
under pressure evicts.
"""

import re
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp import dsl
from kfp.local import executor_input_utils, io
from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.interpreters import Interpreter
from tests.pipeline.kubeflow import launcher, manifest, node
from tests.pipeline.kubeflow.argo import Failure, Retries, is_retried
from tests.pipeline.kubeflow.container import ContainerImage
from tests.pipeline.kubeflow.launcher import LOGS, PARAMETERS, Pod
from tests.pipeline.kubeflow.metadata import MetadataStore, fingerprint
from tests.pipeline.kubeflow.node import Node, PlacedPod
from tests.pipeline.kubeflow.storage import Storage

# A task with this strategy becomes a hook of Argo, which runs at the exit of the DAG that it depends on.
_ON_EXIT = pipeline_spec_pb2.PipelineTaskSpec.TriggerPolicy.TriggerStrategy.ALL_UPSTREAM_TASKS_COMPLETED
#: The root of all artifacts of a pipeline that names none.
_PIPELINE_ROOT = "minio://mlpipeline/v2/artifacts"


class PodFailed(AssertionError):
    """A task failed for good."""


@dataclass
class Run:
    """What a run has done so far.

    Attributes:
        run_id: Id of the run.
        pods: The tries, in the order of their ends.
        cached: Tasks whose outputs were those of an earlier run.
        artifacts: The recorded artifacts of each task, by task and output.
    """

    run_id: str
    pods: list[Pod] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    artifacts: dict[str, dict[str, dsl.Artifact]] = field(default_factory=dict)

    @property
    def ran(self) -> list[str]:
        """The tasks that had pods, in the order in which their first pods ended."""
        return list(dict.fromkeys(pod.task for pod in self.pods))


@dataclass
class Cluster:
    """An installation of Kubeflow Pipelines, which runs pipelines.

    Attributes:
        root: Folder for everything.
        image: Python of the image, with nnclr in it.
        storage: Buckets for the artifacts.
        secrets: Contents of the Secrets, by name and key.
        claims: Folders of the PersistentVolumeClaims, by name; see `Node`.
        disturb: Is called with each running pod, and may end it.
        retries: What the installation retries.
        fs_group: The group for which volumes are made writable, if any.
        fresh: Whether pods import everything anew, which takes 20 seconds for each.
        runs: All runs, also failed ones.
    """

    root: Path
    image: Interpreter | ContainerImage
    storage: Storage
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    claims: Mapping[str, Path] = field(default_factory=dict)
    disturb: Callable[[PlacedPod], None] = lambda pod: None
    retries: Retries = Retries.KFP_2_14_TO_2_16
    fs_group: int | None = None
    fresh: bool = False
    runs: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.node = Node(self.root / "pods", self.image, self.secrets, self.claims)
        self.store = MetadataStore()

    def run(self, package: Path, parameters: dict[str, Any]) -> Run:
        """Runs a compiled pipeline.

        Raises:
            PodFailed: A task failed as often as its retry policy allows, and once more.
        """
        document, platform = yaml.safe_load_all(package.read_text())
        spec = json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
        kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        ignored = kubernetes.keys() - document["deploymentSpec"]["executors"].keys()
        assert not ignored, f"the backend ignores the settings of pods under other labels: {ignored}"
        unknown = parameters.keys() - spec.root.input_definitions.parameters.keys()
        assert not unknown, f"the backend refuses unknown parameters: {unknown}"
        given = OrchestratorUtils.join_user_inputs_and_defaults(parameters, spec.root.input_definitions)
        run = Run(str(uuid.uuid4()))
        self.runs.append(run)
        _Execution(self, run, spec, document["deploymentSpec"]["executors"], kubernetes).run_dag(spec.root, given)
        return run


@dataclass
class _Execution:
    """A pipeline that runs, with the container specs and the executor configs by their labels."""

    cluster: Cluster
    run: Run
    spec: pipeline_spec_pb2.PipelineSpec
    containers: dict[str, Any]
    executors: dict[str, Any]

    def run_dag(self, component: pipeline_spec_pb2.ComponentSpec, given: dict[str, Any]) -> None:
        """Runs the tasks of a DAG, and then its exit tasks, even if another one has failed."""
        store = io.IOStore()
        for name, value in given.items():
            store.put_parent_input(name, value)
        exits = {name: task for name, task in component.dag.tasks.items() if task.trigger_policy.strategy == _ON_EXIT}
        try:
            self._run_tasks(component, store, exits)
        finally:
            for name, task in exits.items():
                self._outputs(name, task, OrchestratorUtils.make_task_arguments(task.inputs, store))

    def _run_tasks(self, component: pipeline_spec_pb2.ComponentSpec, store: io.IOStore, exits: Collection[str]) -> None:
        """Runs the other tasks of a DAG, each as soon as those that it needs have ended."""
        waiting = {name: set(task.dependent_tasks) for name, task in component.dag.tasks.items() if name not in exits}
        with ThreadPoolExecutor(len(waiting)) as threads:
            running: dict[Future[dict[str, Any]], str] = {}
            while waiting or running:
                for name in [name for name, needed in waiting.items() if not needed]:
                    del waiting[name]
                    task = component.dag.tasks[name]
                    arguments = OrchestratorUtils.make_task_arguments(task.inputs, store)
                    running[threads.submit(self._outputs, name, task, arguments)] = name
                ended, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
                for future in ended:
                    name = running.pop(future)
                    # If a task has failed, no other starts. Those that run go on to their ends.
                    for key, value in future.result().items():
                        store.put_task_output(name, key, value)
                    for needed in waiting.values():
                        needed.discard(name)

    def _outputs(self, name: str, task, arguments: dict[str, Any]) -> dict[str, Any]:
        """Returns the outputs of a task, which is a step or a DAG. It has none if its condition skips it."""
        component = self.spec.components[task.component_ref.name]
        declared = component.input_definitions.parameters.keys()
        assert arguments.keys() - component.input_definitions.artifacts.keys() == declared
        if not _triggered(task.trigger_policy.condition, arguments):
            return {}
        if component.HasField("dag"):
            self.run_dag(component, arguments)
            return {}
        outputs = self.cluster.store.outputs(self._execution(name, task, component, arguments))
        self.run.artifacts[name] = {key: value for key, value in outputs.items() if isinstance(value, dsl.Artifact)}
        return outputs

    def _execution(self, name: str, task, component, arguments: dict[str, Any]) -> int:
        """Finds the execution of a task in the cache, or runs its pods."""
        label, pipeline = component.executor_label, self.spec.pipeline_info.name
        container, executor = self.containers[label]["container"], self.executors.get(label, {})
        executor_input = self._executor_input(name, component, arguments)
        key = None
        if task.caching_options.enable_cache:
            types = {
                output: pipeline_spec_pb2.ParameterType.ParameterTypeEnum.Name(definition.parameter_type)
                for output, definition in component.output_definitions.parameters.items()
            }
            claims = [claim["pvcNameParameter"] for claim in executor.get("pvcMount", [])]
            names = [claim["runtimeValue"]["constant"] for claim in claims]
            key = fingerprint(executor_input, types, container, names)
            if earlier := self.cluster.store.reusable(pipeline, key):
                self.run.cached.append(name)
                return earlier
        execution = self._with_retries(name, task, component, container, executor, executor_input)
        if key:
            self.cluster.store.keep(pipeline, key, execution)
        return execution

    def _with_retries(self, name: str, task, component, container, executor, executor_input) -> int:
        started, attempts, failure = time.monotonic(), 0, Failure.CONTAINER
        cluster, policy = self.cluster, task.retry_policy
        while not attempts or is_retried(policy, cluster.retries, failure, attempts, time.monotonic() - started):
            launched = ["--pipeline_name", self.spec.pipeline_info.name, "--run_id", self.run.run_id]
            described = manifest.pod(
                name,
                container,
                executor,
                f"{self.spec.pipeline_info.name}-{self.run.run_id[:5]}-{name.lower()}-{attempts}",
                launched,
                attempts if task.HasField("retry_policy") else None,
                cluster.fs_group,
            )
            placed = cluster.node.place(described, name, attempts)
            pod = launcher.run(
                *(placed, executor_input, component, cluster.storage, cluster.store, cluster.disturb, cluster.fresh)
            )
            self.run.pods.append(pod)
            node.remove(placed)
            if pod.execution is not None:
                return pod.execution
            attempts += 1
            failure = Failure.POD if pod.code is None else Failure.CONTAINER
        raise PodFailed(f"{name} failed: {pod.log[-3000:]}")

    def _executor_input(self, name: str, component, arguments: dict[str, Any]) -> dict[str, Any]:
        """Returns the task's ExecutorInput, with the one set of URIs for all of its tries."""
        root = self.spec.default_pipeline_root or _PIPELINE_ROOT
        task_root = f"{root}/{self.spec.pipeline_info.name}/{self.run.run_id}/{name}/{uuid.uuid4()}"
        message = executor_input_utils.construct_executor_input(
            component, arguments, task_root, block_input_artifact=False
        )
        message.outputs.output_file = launcher.local_path(f"{task_root}/output_metadata.json")
        for output, parameter in message.outputs.parameters.items():
            parameter.output_file = f"{PARAMETERS}/{output}"
        given = executor_input_utils.executor_input_to_dict(message, component)
        for entry in given.get("inputs", {}).get("artifacts", {}).values():
            for artifact in entry["artifacts"]:
                # The metadata store knows no types of TFX.
                artifact["type"] = {"instanceSchema": ""}
        values = given.get("inputs", {}).get("parameterValues", {})
        for parameter, value in values.items():
            # Of constants, the driver replaces only those that consist of a placeholder.
            if value == dsl.PIPELINE_JOB_ID_PLACEHOLDER:
                values[parameter] = self.run.run_id
        given["outputs"].setdefault("artifacts", {})[LOGS] = {
            "artifacts": [{"name": LOGS, "uri": f"{task_root}/{LOGS}", "type": {"schemaTitle": "system.Artifact"}}]
        }
        return given


def _triggered(condition: str, arguments: dict[str, Any]) -> bool:
    """Evaluates a condition of the only form that is used; the driver takes any expression of CEL."""
    if not condition:
        return True
    match = re.fullmatch(r"inputs\.parameter_values\['([^']+)'\] == '([^']*)'", condition)
    assert match, condition
    return arguments[match[1]] == match[2]
