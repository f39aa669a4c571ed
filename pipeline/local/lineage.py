"""Reads from ML Metadata what a run did."""

from dataclasses import dataclass

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

_STATES = {
    mlmd.Execution.COMPLETE: "done",
    mlmd.Execution.CACHED: "cached",
    mlmd.Execution.FAILED: "failed",
}


@dataclass(frozen=True)
class Execution:
    """One component's part in a run: its state and the places of its outputs by key."""

    state: str
    outputs: dict[str, str]


class Lineage:
    """The executions of one run.

    Args:
        connection: to the metadata store.
        run_id: of the run.
    """

    def __init__(self, connection: mlmd.ConnectionConfig, run_id: str):
        self._store = metadata_store.MetadataStore(connection)
        self._run_id = run_id

    def execution(self, component: str) -> Execution | None:
        """What a component did in this run; None if it was not reached."""
        run = self._store.get_context_by_type_and_name("pipeline_run", self._run_id)
        if run is None:
            return None
        for execution in self._store.get_executions_by_context(run.id):
            nodes = [c.name for c in self._store.get_contexts_by_execution(execution.id)]
            if any(name.endswith(f".{component}") for name in nodes):
                return Execution(_STATES.get(execution.last_known_state, "running"), self._outputs(execution.id))
        return None

    def _outputs(self, execution_id: int) -> dict[str, str]:
        events = [
            event
            for event in self._store.get_events_by_execution_ids([execution_id])
            if event.type == mlmd.Event.OUTPUT
        ]
        artifacts = {a.id: a.uri for a in self._store.get_artifacts_by_id([event.artifact_id for event in events])}
        return {event.path.steps[0].key: artifacts[event.artifact_id] for event in events}
