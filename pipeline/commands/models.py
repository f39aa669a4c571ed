"""The command `nnclr models`: inspects the model registry and moves its aliases."""

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.image_example_gen.sources import span_window
from pipeline.commands.options import JsonOption, WorkdirOption
from pipeline.local.workdir import DEFAULT_WORKDIR, Workdir
from pipeline.terminal import output
from pipeline.terminal.screen import Screen, write_line
from trainer.errors import DAMAGED, SettingsError

if TYPE_CHECKING:
    from components.model_registry import ModelRegistry, Version

app = typer.Typer(
    help="Inspect the model registry, and move its aliases."
    "\n\nThe registry is the server in MLFLOW_TRACKING_URI if that is set, or else the one in the working directory.",
    no_args_is_help=True,
)

NameOption = Annotated[
    str | None, typer.Option("--name", help="Name of the registered model; required if the registry has several.")
]
AliasOption = Annotated[str, typer.Option(help="Alias to move.")]
ReasonOption = Annotated[str, typer.Option(help="Reason for the move, for the history.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="Number or alias of the version.")]

# Written in this form because `from` is a keyword.
AliasMove = TypedDict("AliasMove", {"name": str, "alias": str, "from": int | None, "to": int, "served": str | None})


@app.command("list")
def list_versions(
    directory: WorkdirOption = DEFAULT_WORKDIR, name: NameOption = None, as_json: JsonOption = False
) -> None:
    """List the registered versions with their aliases, linear-probe accuracies and dates.

    **Example**: `nnclr models list --workdir nnclr-runs`
    """
    with _opened(directory) as registry:
        names = registry.names() if name is None else [_model_name(registry, name)]
        versions = [version for model in names for version in registry.versions(model)]
    if as_json:
        output.print_json([_json_fields(version) for version in versions])
        return
    table = Table("Model", "Version", "Alias", "Probe", "Created")
    for version in versions:
        aliases, created = ", ".join(version.aliases), f"{version.created.astimezone():%Y-%m-%d %H:%M}"
        unlabelled = version.probe_accuracy is None and version.neighbour_consistency is not None
        probe = "no labels" if unlabelled else _percent(version.probe_accuracy)
        table.add_row(version.name, str(version.version), aliases, probe, created)
    Console().print(table)


@app.command()
def show(
    version: VersionArgument,
    directory: WorkdirOption = DEFAULT_WORKDIR,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a version: its metrics, settings and origin.

    **Example**: `nnclr models show champion`
    """
    with _opened(directory) as registry:
        shown = _find_version(registry, name, version)
        details = asdict(registry.details(shown))
    if as_json:
        output.print_json(_json_fields(shown) | details)
        return
    console = Console()
    table = Table(show_header=False, title=f"{shown.name} version {shown.version}", title_justify="left")
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("uri", shown.uri)
    table.add_row("aliases", ", ".join(shown.aliases))
    table.add_row("created", shown.created.isoformat())
    table.add_row("sha256", shown.sha256)
    table.add_row("artifacts", details["artifacts"])
    table.add_row("page", details["page"] or "")
    for group in ("metrics", "tags"):
        for key, value in sorted(details[group].items()):
            table.add_row(key, f"{value:.4g}" if isinstance(value, float) else value)
    console.print(table)
    write_line(console, details["description"] or "")
    write_line(
        console, f"For its {len(details['parameters'])} settings, see --json, or settings.yaml in its artifacts."
    )


@app.command()
def promote(
    version: VersionArgument,
    reason: ReasonOption,
    directory: WorkdirOption = DEFAULT_WORKDIR,
    name: NameOption = None,
    alias: AliasOption = "champion",
    as_json: JsonOption = False,
) -> None:
    """Move an alias to a version, after verifying the files of the version.

    The alias challenger is removed from a version that waited for approval and is promoted.

    **Examples**: `nnclr models promote 3 --reason "better on last week's images"`,
    `nnclr models promote challenger --reason "looked at its mistakes"`
    """
    from components.model_registry import history

    with _opened(directory) as registry:
        promoted = _find_version(registry, name, version)
        move = _move_alias(registry, promoted, alias, history.PROMOTE, reason)
    _print_move(move, as_json)


@app.command()
def rollback(
    reason: ReasonOption,
    directory: WorkdirOption = DEFAULT_WORKDIR,
    name: NameOption = None,
    alias: AliasOption = "champion",
    as_json: JsonOption = False,
) -> None:
    """Move an alias back to the previous version that had it and still exists.

    Repeated rollbacks go further back: a version from which an alias was rolled back is not chosen again.

    **Example**: `nnclr models rollback --reason "slower in production"`
    """
    from components.model_registry import history

    with _opened(directory) as registry:
        model = _model_name(registry, name)
        current = registry.aliased(model, alias)
        if current is None:
            raise SettingsError(f"{model} has no {alias} to roll back from.")
        previous = registry.rollback_target(model, alias)
        if previous is None:
            raise SettingsError(f"Version {current.version} of {model} is the first {alias}: no version precedes it.")
        move = _move_alias(registry, previous, alias, history.ROLLBACK, reason)
    _print_move(move, as_json)


@app.command()
def verify(
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="Number or alias of the version; by default all versions.")
    ] = None,
    directory: WorkdirOption = DEFAULT_WORKDIR,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify the sha256 of every file of a version, and its embeddings of example images.

    Name each file that differs from what was registered, and exit with code 5 if there are any.

    **Examples**: `nnclr models verify`, `nnclr models verify champion`
    """
    with _opened(directory) as registry:
        from components.registry_pusher.push import differences

        names = [_model_name(registry, name)] if name or version else registry.names()
        versions = (
            [_find_version(registry, name, version)]
            if version
            else [registered for model in names for registered in registry.versions(model)]
        )
        results = [(checked, differences(registry, checked)) for checked in versions]
    if as_json:
        output.print_json([_json_fields(checked) | {"differences": problems} for checked, problems in results])
    for checked, problems in results:
        if not as_json:
            print(f"{checked.uri}: {'differs' if problems else 'intact'}")
        for problem in problems:
            write_line(Console(stderr=True), f"[red]{checked.uri}[/]: {problem}")
    if any(problems for _, problems in results):
        raise typer.Exit(DAMAGED)


@app.command("history")
def show_history(
    directory: WorkdirOption = DEFAULT_WORKDIR, name: NameOption = None, as_json: JsonOption = False
) -> None:
    """List every move of an alias: time, versions, cause, author and reason.

    **Example**: `nnclr models history`
    """
    with _opened(directory) as registry:
        moves = registry.history(_model_name(registry, name))
    if as_json:
        output.print_json(moves)
        return
    table = Table("Time", "Alias", "From", "To", "Cause", "By", "Reason")
    for move in moves:
        cause = move.kind if move.completed else f"{move.kind}, not completed"
        previous = str(move.previous or "")
        table.add_row(move.at[:19], move.alias, previous, str(move.version), cause, move.by, move.reason)
    Console().print(table)


@app.command("runs")
def list_pipeline_runs(
    directory: WorkdirOption = DEFAULT_WORKDIR,
    name: NameOption = None,
    most: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of runs, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the runs of the pipeline with their outcomes, newest first.

    **Example**: `nnclr models runs`
    """
    from components.model_registry.pipeline_runs import PipelineRuns

    with _opened(directory) as registry:
        names = [name] if name else PipelineRuns.model_names(registry)
        runs = [(model, run) for model in names for run in PipelineRuns(registry, model).newest(most)]
    runs = sorted(runs, key=lambda model_and_run: str(model_and_run[1].at), reverse=True)[:most]
    if as_json:
        output.print_json([asdict(run) | {"model": model, "at": f"{run.at:%Y-%m-%dT%H:%M:%SZ}"} for model, run in runs])
        return
    columns = ["Time", "Run", "Outcome", "Version", "Probe", "Images"]
    table = Table(*columns, *(["Model"] if len(names) > 1 else []))
    for model, run in runs:
        ended = f"{run.at.astimezone():%Y-%m-%d %H:%M}" if run.at else ""
        images = _images(run.source)
        version, probe = str(run.version or ""), _percent(run.probe_accuracy)
        table.add_row(ended, run.run, run.outcome, version, probe, images, *([model] if len(names) > 1 else []))
    Console().print(table)
    # The details are too long for the table; --json contains all of them.
    if runs and runs[0][1].detail:
        write_line(Console(), f"Newest run: {escape(runs[0][1].detail)}")


def _images(source: str) -> str:
    """Returns the name of a run's images, or those of the first and the last of several spans."""
    names = [path.rstrip("/").rpartition("/")[2] for path in span_window.paths(source)]
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]} ({len(names)})"


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=0, help="Number of newest versions to keep.")],
    directory: WorkdirOption = DEFAULT_WORKDIR,
    name: NameOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be deleted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete old versions and their files.

    Always keep the versions that an alias points to, the version that a rollback would restore, and the best release.

    **Example**: `nnclr models prune --keep 5 --dry-run`
    """
    with _opened(directory) as registry, registry.locked():
        old = registry.versions_to_prune(_model_name(registry, name), keep)
        for version in old if not dry_run else []:
            registry.delete(version)
    if as_json:
        chosen = [version.version for version in old]
        output.print_json({"deleted": [] if dry_run else chosen, "chosen": chosen})
        return
    for version in old:
        print(f"{'Would delete' if dry_run else 'Deleted'} {version.uri}")
    if not old:
        print("Nothing to delete.")


@contextmanager
def _opened(directory: Path) -> Iterator["ModelRegistry"]:
    from pipeline.terminal import imports

    workdir = Workdir(directory)
    workdir.require_registry()
    with output.captured(workdir.root / "models.log") as (_, stderr), Screen(Console(file=stderr)):
        with imports.gc_paused():
            from components.model_registry import ModelRegistry

            registry = ModelRegistry(str(workdir.registry))
        yield registry


def _model_name(registry: "ModelRegistry", name: str | None) -> str:
    """Returns the name of the model that a command works on: the given name, or that of the only model."""
    names = registry.names()
    if name in names:
        return name
    if name is not None:
        raise SettingsError(f"The registry has no model {name}. Registered models: {', '.join(names) or 'none'}.")
    if len(names) != 1:
        raise SettingsError(
            f"The registry has the models {', '.join(names)}: choose one with --name."
            if names
            else "The registry has no models yet: run the pipeline first."
        )
    return names[0]


def _find_version(registry: "ModelRegistry", name: str | None, version: str) -> "Version":
    model = _model_name(registry, name)
    if version.isdigit():
        return registry.version(model, int(version))
    aliased = registry.aliased(model, version)
    if aliased is None:
        raise SettingsError(f"{version} is neither the number of a version of {model} nor one of its aliases.")
    return aliased


def _move_alias(registry: "ModelRegistry", version: "Version", alias: str, kind: str, reason: str) -> AliasMove:
    """Verifies the files of a version, moves an alias to it, and updates the folder of TensorFlow Serving."""
    import tempfile

    from components.model_registry import Move
    from components.registry_pusher import serving

    by = f"{_user()}@{socket.gethostname()}"
    with registry.locked():
        previous = registry.aliased(version.name, alias)
        serving.require_watched_folder_usable(registry, version.name)
        with tempfile.TemporaryDirectory() as aside:
            registry.download(version, aside)
        registry.move_alias(version.name, Move(alias, None, version.version, kind, by, reason))
        registry.end_challenge(version.name, alias)
        served = serving.serve_champion(registry, version.name, alias)
    return {
        "name": version.name,
        "alias": alias,
        "from": previous.version if previous else None,
        "to": version.version,
        "served": served,
    }


def _user() -> str:
    """Returns the name of the user, or the number if the user has no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _print_move(move: AliasMove, as_json: bool) -> None:
    if as_json:
        output.print_json(move)
        return
    previous = f"; it was version {move['from']}" if move["from"] else ""
    print(f"{move['alias']} of {move['name']} is now version {move['to']}{previous}.")
    if move["served"]:
        print(f"TensorFlow Serving loads it from {move['served']}.")
    print("Next: nnclr models history")


def _json_fields(version: "Version") -> dict[str, Any]:
    return asdict(version) | {"uri": version.uri}


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
