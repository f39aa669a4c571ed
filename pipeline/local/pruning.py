"""What a working directory can do without: artifacts, logs and checkpoints that no kept run refers to."""

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from pipeline.local import metadata
from pipeline.local.workdir import Workdir
from trainer import aside

KINDS = RUN, ARTIFACT, CHECKPOINT = ("run", "artifact", "checkpoint")
_SUMMARY = "summary.json"


@dataclass(frozen=True)
class Disposable:
    """A folder that can be deleted: its path, what it is, and its size in bytes."""

    path: Path
    kind: str
    size: int


class Found(NamedTuple):
    """What can be deleted, and a sentence for what cannot be told."""

    disposable: list[Disposable]
    notes: list[str]


def find(workdir: Workdir, keep_runs: int, older_than: timedelta | None = None) -> Found:
    """Finds what can be deleted. The registry and everything outside of the working directory are never among it.

    Only runs that came to their end count as kept: what failed, or found nothing new, would push them out.

    Args:
        workdir: locked; its metadata is prepared.
        keep_runs: the newest so many runs stay, with all that they made or used.
        older_than: only runs before that are given up at all.
    """
    # Their names begin with the time of their start, so that they are in order.
    runs = sorted(path for path in (workdir.root / "runs").glob("*") if path.is_dir())
    finished = [run for run in runs if _components(run)]
    oldest_kept = finished[-keep_runs].name if 0 < keep_runs <= len(finished) else ("" if keep_runs else "~")
    given_up = [run for run in runs if run.name < oldest_kept]
    if older_than is not None:
        before = f"{datetime.now(UTC) - older_than:%Y%m%d-%H%M%S}"
        given_up = [run for run in given_up if run.name < before]
    kept = [run for run in runs if run not in given_up]
    used, known = _used_by(workdir, {run.name for run in kept})
    found = [Disposable(path, RUN, _size(path)) for path in given_up]
    unknown = [run.name for run in kept if _components(run) and run.name not in known]
    notes = []
    if unknown:
        notes.append(
            f"No artifact is deleted: the metadata that says which ones {', '.join(unknown[:3])} used is gone, as "
            "another metadata.sqlite was begun since."
        )
    else:
        found += [Disposable(path, ARTIFACT, _size(path)) for path in _unused(workdir, used)]
    # An unfinished training goes on from its checkpoints: they stay while a run that may have left them does.
    oldest = min((_start(run) for run in kept), default=None)
    for path in sorted(workdir.checkpoints.glob("*")):
        if oldest is None or path.stat().st_mtime < oldest:
            found.append(Disposable(path, CHECKPOINT, _size(path)))
    return Found(found, notes)


def delete(found: list[Disposable]) -> list[str]:
    """Deletes what was found; returns a sentence for each folder that could not be deleted.

    Each is renamed first, so that nobody takes a half-deleted artifact for a whole one.
    """
    problems = []
    for one in found:
        hidden = Path(aside.beside(str(one.path)))
        try:
            one.path.rename(hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            problems.append(f"{one.path} cannot be deleted: {error.strerror}.")
    return problems


def _unused(workdir: Workdir, used: set[Path]) -> list[Path]:
    """Folders `COMPONENT/OUTPUT/ID` of executions that are not in use, and TFX's own folders for these."""
    outputs = [path for path in workdir.artifacts.glob("*/[!.]*/*") if path.name.isdigit()]
    unused = [path for path in outputs if path.resolve() not in used]
    executions = {(path.parents[1], path.name) for path in unused}
    systems = [path for path in workdir.artifacts.glob("*/.system/*/*") if (path.parents[2], path.name) in executions]
    return sorted([*unused, *systems])


def _components(run: Path) -> bool:
    """Whether a run came to its end through the components."""
    try:
        return bool(json.loads((run / _SUMMARY).read_text()).get("components"))
    except (OSError, ValueError):
        return False


def _used_by(workdir: Workdir, runs: set[str]) -> tuple[set[Path], set[str]]:
    """The folders of all artifacts that executions of these runs made, took or read, and the runs that are known."""
    if not workdir.metadata.exists():
        return set(), set()
    from ml_metadata import metadata_store

    store = metadata_store.MetadataStore(metadata.connection(workdir))
    contexts = [context for context in store.get_contexts_by_type("pipeline_run") if context.name in runs]
    executions = {execution.id for context in contexts for execution in store.get_executions_by_context(context.id)}
    events = store.get_events_by_execution_ids(list(executions)) if executions else []
    ids = {event.artifact_id for event in events}
    artifacts = store.get_artifacts_by_id(list(ids)) if ids else []
    return {Path(artifact.uri).resolve() for artifact in artifacts}, {context.name for context in contexts}


def _start(run: Path) -> float:
    """When a run began, in seconds since 1970, from its name; of other names, when its folder changed last."""
    try:
        return datetime.strptime(run.name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return run.stat().st_mtime


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
