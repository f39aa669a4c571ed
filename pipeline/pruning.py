"""What a working directory can do without: artifacts, logs and checkpoints that no kept run refers to."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.workdir import Workdir

RUN, ARTIFACT, CHECKPOINT = "run", "artifact", "checkpoint"


@dataclass(frozen=True)
class Disposable:
    """A folder that can be deleted: its path, what it is, and its size in bytes."""

    path: Path
    kind: str
    size: int


def find(workdir: Workdir, keep_runs: int, older_than: timedelta | None = None) -> list[Disposable]:
    """Finds what can be deleted. The registry and everything outside of the working directory are never among it.

    Args:
        workdir: locked.
        keep_runs: the newest so many runs stay, with all that they made or used.
        older_than: only runs before that are given up at all.
    """
    # Their names begin with the time of their start, so that they are in order.
    runs = sorted(path for path in (workdir.root / "runs").glob("*") if path.is_dir())
    given_up = runs[: max(len(runs) - keep_runs, 0)]
    if older_than is not None:
        before = f"{datetime.now(UTC) - older_than:%Y%m%d-%H%M%S}"
        given_up = [run for run in given_up if run.name < before]
    kept = [run for run in runs if run not in given_up]
    used = _used_by(workdir, {run.name for run in kept})
    artifacts = [path for path in workdir.artifacts.glob("*/*/*") if path.name.isdigit() and path.resolve() not in used]
    systems = [
        path
        for path in workdir.artifacts.glob("*/.system/*/*")
        if path.name.isdigit() and not any((path.parents[2]).glob(f"[!.]*/{path.name}"))
    ]
    found = [Disposable(path, RUN, _size(path)) for path in given_up]
    found += [Disposable(path, ARTIFACT, _size(path)) for path in sorted([*artifacts, *systems])]
    # An unfinished training goes on from its checkpoints: they stay while a run that may have left them does.
    oldest = min((_start(run) for run in kept), default=None)
    for path in sorted(workdir.checkpoints.glob("*")):
        if oldest is None or path.stat().st_mtime < oldest:
            found.append(Disposable(path, CHECKPOINT, _size(path)))
    return found


def delete(found: list[Disposable]) -> None:
    """Deletes what was found."""
    for one in found:
        shutil.rmtree(one.path, ignore_errors=True)


def _used_by(workdir: Workdir, runs: set[str]) -> set[Path]:
    """The folders of all artifacts that executions of these runs made, took from the cache, or read."""
    if not workdir.metadata.exists():
        return set()
    from ml_metadata import metadata_store
    from tfx.orchestration.metadata import sqlite_metadata_connection_config

    store = metadata_store.MetadataStore(sqlite_metadata_connection_config(str(workdir.metadata.resolve())))
    executions = {
        execution.id
        for context in store.get_contexts_by_type("pipeline_run")
        if context.name in runs
        for execution in store.get_executions_by_context(context.id)
    }
    events = store.get_events_by_execution_ids(list(executions)) if executions else []
    ids = {event.artifact_id for event in events}
    return {Path(artifact.uri).resolve() for artifact in store.get_artifacts_by_id(list(ids))} if ids else set()


def _start(run: Path) -> float:
    """When a run began, in seconds since 1970, from its name; of other names, when its folder changed last."""
    try:
        return datetime.strptime(run.name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return run.stat().st_mtime


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
