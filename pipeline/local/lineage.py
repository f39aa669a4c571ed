"""Reads from ML Metadata what a run did."""

from dataclasses import dataclass

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.local.summary import CACHED, COMPLETE, FAILED, RUNNING

_STATES = {
    mlmd.Execution.COMPLETE: COMPLETE,
    mlmd.Execution.CACHED: CACHED,
    mlmd.Execution.FAILED: FAILED,
}


@dataclass(frozen=True)
class Execution:
    """One component's part in a run.

    Attributes:
        state: `done`, `cached`, `failed` or `running`.
        outputs: Path of each output artifact, by key.
    """

    state: str
    outputs: dict[str, str]


class Lineage:
    """The executions of one run.

    Args:
        connection: Connection to the metadata store.
        run_id: Id of the run.
    """

    def __init__(self, connection: mlmd.ConnectionConfig, run_id: str):
        self._store = metadata_store.MetadataStore(connection)
        self._run_id = run_id

    def execution(self, component: str) -> Execution | None:
        """Returns a component's execution in this run; None if the run did not reach the component."""
        run = self._store.get_context_by_type_and_name("pipeline_run", self._run_id)
        if run is None:
            return None
        for execution in self._store.get_executions_by_context(run.id):
            nodes = [context.name for context in self._store.get_contexts_by_execution(execution.id)]
            if any(name.endswith(f".{component}") for name in nodes):
                return Execution(_STATES.get(execution.last_known_state, RUNNING), self._outputs(execution.id))
        return None

    def output(self, component: str, key: str) -> str:
        """Returns the path of a component's output artifact.

        Raises:
            KeyError: If the component did not run, or has no such output.
        """
        execution = self.execution(component)
        if execution is None:
            raise KeyError(component)
        return execution.outputs[key]

    def _outputs(self, execution_id: int) -> dict[str, str]:
        events = [
            event
            for event in self._store.get_events_by_execution_ids([execution_id])
            if event.type == mlmd.Event.OUTPUT
        ]
        artifacts = {
            artifact.id: artifact.uri
            for artifact in self._store.get_artifacts_by_id([event.artifact_id for event in events])
        }
        return {event.path.steps[0].key: artifacts[event.artifact_id] for event in events}
