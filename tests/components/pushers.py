"""Pushers in processes of their own, to be killed at any of their side effects, or to race each other."""

import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

# MLflow imports its parts when they are first used: this imports them once, and not in every process.
from fsspec.implementations.local import LocalFileSystem
from mlflow import MlflowClient

from components.model_registry import ModelRegistry
from components.registry_pusher.push import push
from components.registry_pusher.release import Release
from tests import fork_server
from tests.components import releases

fork_server.preload("tests.components.pushers")

# All calls of a push that change something outside of its process.
CHANGES = {
    MlflowClient: (
        *("create_experiment", "create_run", "log_batch", "log_artifacts", "set_terminated"),
        *("create_registered_model", "create_model_version", "delete_model_version", "delete_run"),
        *("set_registered_model_tag", "set_registered_model_alias", "delete_registered_model_alias"),
    ),
    LocalFileSystem: ("put_file", "pipe_file", "rm"),
    os: ("rename",),
}


def _on_change(call: Callable[[str, Callable], object]) -> None:
    """Replaces each change by `call(name, change)`, in which `change()` makes the change."""

    def wrapped(name, original):
        return lambda *args, **kwargs: call(name, lambda: original(*args, **kwargs))

    for owner, names in CHANGES.items():
        for name in names:
            setattr(owner, name, wrapped(name, getattr(owner, name)))


def _push(
    root: str,
    model: str,
    run: str,
    accuracy: float,
    baseline: int | None,
    name: str = "encoder",
    approval: str = "automatic",
) -> None:
    candidate = releases.candidate(model, run, accuracy, baseline, approval=approval)
    push(ModelRegistry(f"{root}/registry"), name, "champion", candidate, f"{root}/serving")


def push_noting_changes(
    root: str, model: str, run: str, baseline: int | None, notes: str, builds: dict[str, Release]
) -> None:
    """Pushes, and writes the names of all changes in order into the file `notes`."""
    releases.use_built(builds)
    seen = []

    def note(name, change):
        seen.append(name)
        return change()

    _on_change(note)
    _push(root, model, run, 0.5, baseline)
    Path(notes).write_text("\n".join(seen))


def push_and_die(
    root: str, model: str, run: str, baseline: int | None, index: int, after: bool, builds: dict[str, Release]
) -> None:
    """Pushes and kills itself by SIGKILL before, or after, the change with this index."""
    releases.use_built(builds)
    count = iter(range(1_000))

    def die_at(_, change):
        here = next(count) == index
        if here and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = change()
        if here:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    _on_change(die_at)
    _push(root, model, run, 0.5, baseline)


def push_at_once(
    root: str,
    model: str,
    run: str,
    accuracy: float,
    name: str,
    environment: dict[str, str],
    wait,
    late: bool,
    approval: str = "automatic",
) -> None:
    """Pushes, and waits for the other pushers before it registers and again before it moves the alias.

    Args:
        root: The folder of the embedded registry and of the served folder.
        model: The SavedModel to push.
        run: The id of the pipeline run.
        accuracy: The accuracy of the candidate.
        name: The name of the registered model.
        environment: Environment variables to set.
        wait: The barrier at which the pushers wait; None to push without waiting.
        late: Whether this pusher moves the alias last.
        approval: `registry.approval`.
    """
    os.environ |= environment
    waited = set()

    def meet(done, change):
        if wait is not None and done in ("create_model_version", "set_registered_model_alias") and done not in waited:
            waited.add(done)
            wait.wait(timeout=60)
            if late:
                time.sleep(1)
        return change()

    _on_change(meet)
    _push(root, model, run, accuracy, None, name, approval)


def start(function: Callable[..., None], *arguments: object) -> BaseProcess:
    """Starts a process for one of these functions."""
    process = fork_server.context.Process(target=function, args=arguments)
    process.start()
    return process


def barrier(parties: int):
    """For `push_at_once`."""
    return fork_server.context.Barrier(parties)
