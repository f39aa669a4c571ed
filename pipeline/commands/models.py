"""The command `nnclr models`: looks into the model registry, and moves what its aliases point to."""

import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.commands.options import JsonOption, WorkdirOption
from pipeline.local import workdir as workdirs
from pipeline.terminal.screen import Screen, write_line
from trainer.errors import DAMAGED, SettingsError

if TYPE_CHECKING:
    from components.model_registry import ModelRegistry, Version

app = typer.Typer(
    help="Looks into the model registry, and moves what its aliases point to."
    "\n\nThe registry is the server of MLFLOW_TRACKING_URI, or else the working directory's own.",
    no_args_is_help=True,
)

NameOption = Annotated[
    str | None, typer.Option("--name", help="The registered model; needed where the registry has several.")
]
AliasOption = Annotated[str, typer.Option(help="The alias that is meant.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept in the history.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="Number of the version, or an alias.")]


@app.command("list")
def list_versions(
    workdir: WorkdirOption = workdirs.DEFAULT, name: NameOption = None, as_json: JsonOption = False
) -> None:
    """List the registered versions: accuracy, date, aliases.

    **Example**: `nnclr models list --workdir nnclr-runs`
    """
    with _opened(workdir) as registry:
        names = registry.names() if name is None else [_name(registry, name)]
        versions = [version for known in names for version in registry.versions(known)]
    if as_json:
        print(json.dumps([_as_json(version) for version in versions]))
        return
    table = Table("Model", "Version", "Alias", "Probe", "Created")
    for v in versions:
        created = f"{v.created.astimezone():%Y-%m-%d %H:%M}"
        table.add_row(v.name, str(v.version), ", ".join(v.aliases), _percent(v.probe_accuracy), created)
    Console().print(table)


@app.command()
def show(
    version: VersionArgument,
    workdir: WorkdirOption = workdirs.DEFAULT,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show all that is known of a version: figures, settings, where it comes from.

    **Example**: `nnclr models show champion`
    """
    with _opened(workdir) as registry:
        found = _version(registry, name, version)
        details = _as_json(found) | asdict(registry.details(found))
    if as_json:
        print(json.dumps(details))
        return
    console = Console()
    table = Table(show_header=False, title=f"{found.name} version {found.version}", title_justify="left")
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for key in ("uri", "aliases", "created", "sha256", "artifacts", "page"):
        value = details[key]
        table.add_row(key, ", ".join(value) if isinstance(value, list) else str(value or ""))
    for group in ("metrics", "tags"):
        for key, value in sorted(details[group].items()):
            table.add_row(key, f"{value:.4g}" if isinstance(value, float) else value)
    console.print(table)
    write_line(console, details["description"] or "")
    write_line(console, f"Its {len(details['parameters'])} settings: --json, or settings.yaml among its artifacts.")


@app.command()
def promote(
    version: VersionArgument,
    reason: ReasonOption,
    workdir: WorkdirOption = workdirs.DEFAULT,
    name: NameOption = None,
    alias: AliasOption = "champion",
    as_json: JsonOption = False,
) -> None:
    """Point the alias to a version, once its files have proven whole.

    **Example**: `nnclr models promote 3 --reason "better on last week's images"`
    """
    from components.model_registry import history

    with _opened(workdir) as registry:
        found = _version(registry, name, version)
        moved = _move(registry, found, alias, history.PROMOTE, reason)
    _tell_move(moved, as_json)


@app.command()
def rollback(
    reason: ReasonOption,
    workdir: WorkdirOption = workdirs.DEFAULT,
    name: NameOption = None,
    alias: AliasOption = "champion",
    as_json: JsonOption = False,
) -> None:
    """Point the alias back to the last other version that had it and still exists.

    Done again, it goes back further: versions that were left by a rollback are not gone back to.

    **Example**: `nnclr models rollback --reason "slower in production"`
    """
    from components.model_registry import history

    with _opened(workdir) as registry:
        known = _name(registry, name)
        current = registry.aliased(known, alias)
        if current is None:
            raise SettingsError(f"{known} has no {alias} to roll back from.")
        previous = registry.rollback_target(known, alias)
        if previous is None:
            raise SettingsError(f"Version {current.version} of {known} is the first {alias}: there is none before it.")
        moved = _move(registry, previous, alias, history.ROLLBACK, reason)
    _tell_move(moved, as_json)


@app.command()
def verify(
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="Number of the version, or an alias; all by default.")
    ] = None,
    workdir: WorkdirOption = workdirs.DEFAULT,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that versions are what was registered: every file's sha256, and the embeddings of example images.

    Ends with exit code 5, and names the file, where something differs.

    **Examples**: `nnclr models verify`, `nnclr models verify champion`
    """
    with _opened(workdir) as registry:
        from components.registry_pusher.push import differences

        names = [_name(registry, name)] if name or version else registry.names()
        chosen = (
            [_version(registry, name, version)] if version else [v for known in names for v in registry.versions(known)]
        )
        results = [(found, differences(registry, found)) for found in chosen]
    if as_json:
        print(json.dumps([_as_json(found) | {"differences": problems} for found, problems in results]))
    for found, problems in results:
        if not as_json:
            print(f"{found.uri}: {'whole' if not problems else 'differs'}")
        for problem in problems:
            write_line(Console(stderr=True), f"[red]{found.uri}[/]: {problem}")
    if any(problems for _, problems in results):
        raise typer.Exit(DAMAGED)


@app.command("history")
def show_history(
    workdir: WorkdirOption = workdirs.DEFAULT, name: NameOption = None, as_json: JsonOption = False
) -> None:
    """List every move of an alias: when, by whom, from where to where, why.

    **Example**: `nnclr models history`
    """
    with _opened(workdir) as registry:
        moves = registry.history(_name(registry, name))
    if as_json:
        print(json.dumps([asdict(move) for move in moves]))
        return
    table = Table("When", "Alias", "From", "To", "How", "By", "Why")
    for move in moves:
        how = move.kind if move.completed else f"{move.kind}, broken off"
        came = str(move.previous or "")
        table.add_row(move.at[:19], move.alias, came, str(move.version), how, move.by, move.reason)
    Console().print(table)


@app.command("runs")
def list_pipeline_runs(
    workdir: WorkdirOption = workdirs.DEFAULT,
    name: NameOption = None,
    most: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List what each run of the pipeline came to, released or not, the newest first.

    **Example**: `nnclr models runs`
    """
    from components.model_registry.pipeline_runs import PipelineRuns

    with _opened(workdir) as registry:
        names = [name] if name else PipelineRuns.model_names(registry)
        found = [(known, run) for known in names for run in PipelineRuns(registry, known).newest(most)]
    runs = sorted(found, key=lambda one: str(one[1].at), reverse=True)[:most]
    if as_json:
        print(json.dumps([asdict(run) | {"model": known, "at": f"{run.at:%Y-%m-%dT%H:%M:%SZ}"} for known, run in runs]))
        return
    columns = ["When", "Run", "Outcome", "Version", "Probe", "Images"]
    table = Table(*columns, *(["Model"] if len(names) > 1 else []))
    for known, run in runs:
        when = f"{run.at.astimezone():%Y-%m-%d %H:%M}" if run.at else ""
        images = run.source.rstrip("/").rpartition("/")[2]
        version, probe = str(run.version or ""), _percent(run.probe_accuracy)
        table.add_row(when, run.run, run.outcome, version, probe, images, *([known] if len(names) > 1 else []))
    Console().print(table)
    # The reasons are long: --json tells them all.
    if runs and runs[0][1].detail:
        write_line(Console(), f"Newest: {escape(runs[0][1].detail)}")


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=0, help="How many of the newest versions stay.")],
    workdir: WorkdirOption = workdirs.DEFAULT,
    name: NameOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete old versions with their files.

    A version that an alias points to always stays, and so does the one that a rollback would go back to.

    **Example**: `nnclr models prune --keep 5 --dry-run`
    """
    with _opened(workdir) as registry, registry.locked():
        old = registry.versions_to_prune(_name(registry, name), keep)
        for version in old if not dry_run else []:
            registry.delete(version)
    if as_json:
        print(json.dumps({"deleted": [] if dry_run else [v.version for v in old], "chosen": [v.version for v in old]}))
        return
    for version in old:
        print(f"{'Would delete' if dry_run else 'Deleted'} {version.uri}")
    if not old:
        print("Nothing to delete.")


@contextmanager
def _opened(workdir: Any) -> Iterator["ModelRegistry"]:
    from pipeline.terminal import imports, output

    place = workdirs.Workdir(workdir)
    if not os.environ.get("MLFLOW_TRACKING_URI") and not place.registry.exists():
        raise SettingsError(f"There is no model registry in {workdir}: run the pipeline first, or name its --workdir.")
    with output.captured(place.root / "models.log") as (_, stderr), Screen(Console(file=stderr)):
        with imports.gc_paused():
            from components.model_registry import ModelRegistry

            registry = ModelRegistry(str(place.registry))
        yield registry


def _name(registry: "ModelRegistry", name: str | None) -> str:
    known = registry.names()
    if name in known:
        return name
    if name is not None:
        raise SettingsError(f"There is no registered model {name}; there are: {', '.join(known) or 'none'}.")
    if len(known) != 1:
        raise SettingsError(
            f"The registry has the models {', '.join(known)}: choose one with --name."
            if known
            else "The registry has no models yet: run the pipeline first."
        )
    return known[0]


def _version(registry: "ModelRegistry", name: str | None, version: str) -> "Version":
    known = _name(registry, name)
    if version.isdigit():
        return registry.version(known, int(version))
    found = registry.aliased(known, version)
    if found is None:
        raise SettingsError(f"{version} is neither the number of a version of {known} nor one of its aliases.")
    return found


def _move(registry: "ModelRegistry", version: "Version", alias: str, kind: str, reason: str) -> dict[str, Any]:
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
        served = serving.serve_champion(registry, version.name, alias)
    return {
        "name": version.name,
        "alias": alias,
        "from": previous.version if previous else None,
        "to": version.version,
        "served": served,
    }


def _user() -> str:
    """The user's name, or number where the system has no name for it, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _tell_move(moved: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(moved))
        return
    before = f", before version {moved['from']}" if moved["from"] else ""
    print(f"{moved['alias']} of {moved['name']} is version {moved['to']}{before}.")
    if moved["served"]:
        print(f"TensorFlow Serving finds it in {moved['served']}.")
    print("Next: nnclr models history")


def _as_json(version: "Version") -> dict[str, Any]:
    return {
        "name": version.name,
        "version": version.version,
        "uri": version.uri,
        "aliases": list(version.aliases),
        "probe_accuracy": version.probe_accuracy,
        "created": version.created.isoformat(),
        "sha256": version.sha256,
    }


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
