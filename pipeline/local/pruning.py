"""The deletion of artifacts, logs and checkpoints that no kept run of a working directory refers to."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from components import artifact_files
from pipeline.local import metadata, summary
from pipeline.local.workdir import Workdir
from trainer import aside

KINDS = RUN, ARTIFACT, CHECKPOINT = ("run", "artifact", "checkpoint")


@dataclass(frozen=True)
class Disposable:
    """A folder that can be deleted.

    Attributes:
        path: The path of the folder.
        kind: One of `KINDS`.
        bytes: The size of the folder in bytes.
    """

    path: Path
    kind: str
    bytes: int


class Findings(NamedTuple):
    """The folders that can be deleted, and a sentence for each reason why others cannot be."""

    disposable: list[Disposable]
    notes: list[str]


def find_disposable(workdir: Workdir, keep_runs: int, older_than: timedelta | None = None) -> Findings:
    """Finds the folders that can be deleted, which never include the registry.

    They include what `delete` had renamed, but not yet deleted, when its process was killed.

    Only runs that went through all components count towards `keep_runs`; otherwise runs that failed or that had no
    new data would displace them.

    Args:
        workdir: The working directory, which the caller has locked, with prepared metadata (`metadata.prepare`).
        keep_runs: The number of newest runs to keep, with everything that they produced or used.
        older_than: If given, runs that started less than this time ago are kept too.
    """
    # The names of runs begin with their start times, so that they sort by age.
    runs = sorted(path for path in (workdir.root / "runs").glob("[!.]*") if path.is_dir())
    finished = [run for run in runs if _is_finished(run)]
    oldest_kept = finished[-keep_runs].name if 0 < keep_runs <= len(finished) else ("" if keep_runs else "~")
    old = [run for run in runs if run.name < oldest_kept]
    if older_than is not None:
        limit = f"{datetime.now(UTC) - older_than:%Y%m%d-%H%M%S}"
        old = [run for run in old if run.name < limit]
    kept = [run for run in runs if run not in old]
    used, recorded = _used_artifacts(workdir, {run.name for run in kept})
    disposable = [*_half_deleted(workdir), *(Disposable(path, RUN, _size(path)) for path in old)]
    unrecorded = [run.name for run in kept if _is_finished(run) and run.name not in recorded]
    notes = []
    if unrecorded:
        notes.append(
            "No artifact can be deleted: metadata.sqlite was replaced, and no longer records the artifacts that the "
            f"runs {', '.join(unrecorded[:3])} used."
        )
    else:
        disposable += [Disposable(path, ARTIFACT, _size(path)) for path in _unused(workdir, used)]
    # An unfinished training resumes from its checkpoints, so they are kept as long as a run that may have written them.
    oldest_start = min((_start(run) for run in kept), default=None)
    for path in sorted(workdir.checkpoints.glob("[!.]*")):
        if oldest_start is None or path.stat().st_mtime < oldest_start:
            disposable.append(Disposable(path, CHECKPOINT, _size(path)))
    return Findings(disposable, notes)


def delete(disposable: list[Disposable]) -> list[str]:
    """Deletes folders, and returns a sentence for each one that cannot be deleted.

    Each folder is renamed first, so that no partially deleted artifact can be mistaken for a complete one.
    """
    problems = []
    for folder in disposable:
        hidden = Path(aside.beside(str(folder.path)))
        try:
            folder.path.rename(hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            problems.append(f"{folder.path} cannot be deleted: {error.strerror}.")
    return problems


def _half_deleted(workdir: Workdir) -> list[Disposable]:
    """Returns the folders that a killed process had renamed to delete them."""
    places = [
        *((RUN, path) for path in (workdir.root / "runs").glob(".*")),
        *((ARTIFACT, path) for pattern in ("*/*/.*", "*/.system/*/.*") for path in workdir.artifacts.glob(pattern)),
        *((CHECKPOINT, path) for path in workdir.checkpoints.glob(".*")),
    ]
    return [Disposable(path, kind, _size(path)) for kind, path in sorted(places) if aside.is_temporary(path.name)]


def _unused(workdir: Workdir, used: set[Path]) -> list[Path]:
    """Returns the unused folders `COMPONENT/OUTPUT/ID`, and TFX's own folders of the same executions."""
    outputs = [path for path in workdir.artifacts.glob("*/[!.]*/*") if path.name.isdigit()]
    unused = [path for path in outputs if path.resolve() not in used]
    executions = {(path.parents[1], path.name) for path in unused}
    system_folders = [
        path for path in workdir.artifacts.glob("*/.system/*/*") if (path.parents[2], path.name) in executions
    ]
    return sorted([*unused, *system_folders])


def _is_finished(run: Path) -> bool:
    """Returns whether a run went through all components."""
    try:
        return bool(summary.read(run).components)
    except (OSError, artifact_files.DamagedFile):
        return False


def _used_artifacts(workdir: Workdir, runs: set[str]) -> tuple[set[Path], set[str]]:
    """Returns the folders of all artifacts that these runs produced or used, and the names of the recorded runs."""
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
    """Returns the start of a run in seconds since 1970: from its name, or else the last change of its folder."""
    try:
        return datetime.strptime(run.name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return run.stat().st_mtime


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
