"""The command `nnclr schedule`."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.commands.kubeflow import HostOption, NamespaceOption
from pipeline.commands.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    PresetOption,
    SetOption,
    WorkdirOption,
    data_override,
)
from pipeline.local import workdir as workdirs
from pipeline.terminal.screen import write_line
from trainer.errors import FAILED, SettingsError

if TYPE_CHECKING:
    from pipeline.kubeflow.schedules import Schedule, Schedules
    from pipeline.local.schedule.simulation import Told
    from pipeline.local.schedule.tick import Ticked

_ONLY_NEW = "only_new"

app = typer.Typer(
    help="Retrains at fixed times."
    "\n\nOn Kubeflow Pipelines: create, list, pause, resume, delete. On a machine without: run, status. To see what "
    "becomes of good, bad and broken data: simulate."
    "\n\nA retraining takes the newest complete data, trains nothing if that and the settings are old, and replaces "
    "the champion only with an encoder that keeps up with it on the same images. See also: nnclr models runs.",
    no_args_is_help=True,
)

CronOption = Annotated[
    str, typer.Option("--cron", metavar="CRON", help='Five fields, for instance "0 3 * * 1": Mondays at three.')
]
NameArgument = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Name or id.")]


@app.command()
def create(
    package: Annotated[Path, typer.Argument(metavar="PIPELINE.YAML", help="What nnclr compile wrote.")],
    expression: CronOption,
    host: HostOption,
    name: Annotated[str | None, typer.Option(help="Of the schedule; by default the pipeline's name.")] = None,
    parameters: Annotated[
        list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="A parameter of each run. Repeatable.")
    ] = None,
    experiment: Annotated[str | None, typer.Option(help="Experiment; by default the pipeline's name.")] = None,
    service_account: Annotated[str | None, typer.Option(help="Kubernetes service account of the steps.")] = None,
    namespace: NamespaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a schedule on Kubeflow Pipelines: a recurring run.

    One run at a time; of the times that passed meanwhile, the last one is made up for. The host's time zone holds:
    UTC, unless its administrator set CRON_SCHEDULE_TIMEZONE. A run trains nothing on images that were trained on with
    the same settings; --param only_new=0 changes that.

    **Example**: `nnclr schedule create pipeline.yaml --host http://localhost:8080 --cron "0 3 * * 1"
    --param 'source=gs://bucket/images/{YYYY}-{MM}-{DD}'`
    """
    from pipeline import cron
    from pipeline.kubeflow import runs

    expression = cron.checked(expression)
    cron.for_kubeflow(expression)
    compiled = runs.read_package(package)
    arguments = compiled.arguments(parameters or [])
    if _ONLY_NEW in compiled.parameters:
        arguments.setdefault(_ONLY_NEW, 1)
    made = _schedules(host, namespace).create(
        name or compiled.name, expression, compiled, arguments, experiment or compiled.name, service_account
    )
    if as_json:
        print(json.dumps(_as_json(made)))
        return
    print(f"{made.name}: {cron.in_words(expression)}, in the host's time zone (UTC unless it was changed there).")
    print(f"Page: {made.page}")
    print(f"Next: nnclr schedule list --host {host}")


@app.command("list")
def list_schedules(host: HostOption, namespace: NamespaceOption = None, as_json: JsonOption = False) -> None:
    """List the schedules on Kubeflow Pipelines.

    **Example**: `nnclr schedule list --host http://localhost:8080`
    """
    found = _schedules(host, namespace).list()
    if as_json:
        print(json.dumps([_as_json(one) for one in found]))
        return
    table = Table("Schedule", "Cron", "State", "Created", "Id")
    for one in found:
        state = "on" if one.enabled else "paused"
        created = f"{one.created:%Y-%m-%d %H:%M}" if one.created else ""
        table.add_row(one.name, one.cron, state, created, one.schedule_id)
    Console().print(table)


@app.command()
def pause(schedule: NameArgument, host: HostOption, namespace: NamespaceOption = None) -> None:
    """Let a schedule on Kubeflow Pipelines start no more runs, until it is resumed.

    **Example**: `nnclr schedule pause nnclr --host http://localhost:8080`
    """
    _switch(schedule, host, namespace, on=False)


@app.command()
def resume(schedule: NameArgument, host: HostOption, namespace: NamespaceOption = None) -> None:
    """Let a paused schedule on Kubeflow Pipelines start runs again. If it missed any, one starts at once.

    **Example**: `nnclr schedule resume nnclr --host http://localhost:8080`
    """
    _switch(schedule, host, namespace, on=True)


@app.command()
def delete(schedule: NameArgument, host: HostOption, namespace: NamespaceOption = None) -> None:
    """Delete a schedule on Kubeflow Pipelines. Its runs stay.

    **Example**: `nnclr schedule delete nnclr --host http://localhost:8080`
    """
    schedules = _schedules(host, namespace)
    found = schedules.find(schedule)
    schedules.delete(found)
    print(f"{found.name} is deleted.")


@app.command()
def run(
    expression: CronOption,
    preset: PresetOption = None,
    config_file: ConfigOption = None,
    overrides: SetOption = None,
    data: DataOption = None,
    workdir: WorkdirOption = workdirs.DEFAULT,
    time_zone: Annotated[str, typer.Option(help="Of the cron expression, for instance Europe/Berlin.")] = "UTC",
    retries: Annotated[int, typer.Option(min=0, help="How often a run that broke off is started again.")] = 2,
) -> None:
    """Retrain at fixed times on this machine: a process for systemd, a container or tmux.

    One run at a time; times that pass meanwhile are not made up for. A run that broke off goes on when the process
    starts again. SIGTERM lets a running training save its state, then ends the process.

    schedule.json in the working directory is the health file: nnclr schedule status looks at it.

    **Example**: `nnclr schedule run --cron "0 3 * * 1" --preset stl10-resnet18
    --data '/data/images/{YYYY}-{MM}-{DD}' --set trainer.warm_start=champion`
    """
    from pipeline import config, cron
    from pipeline.local.schedule.service import Service, handle_signals
    from pipeline.local.schedule.tick import Runner

    expression, zone = cron.checked(expression), cron.time_zone(time_zone)
    arguments = _run_arguments(preset, config_file, overrides, data)
    # Wrong settings are told now, not at three in the morning.
    settings = config.load(preset, config_file, _overrides(overrides, data))
    if not settings.data.source:
        raise SettingsError("Which images? Name them with --data SOURCE.")
    place = workdirs.Workdir(workdir)
    console = Console(stderr=True, highlight=False)

    def say(text: str) -> None:
        write_line(console, f"[bold]schedule[/] {text}")

    def on_crash(result: "Ticked") -> None:
        _record_crash(place, settings.registry.model_name, settings.data.source or "", result)

    service = Service(expression, zone, Runner(arguments, place, retries), place, on_crash, say)
    handle_signals(service)
    say(f"{cron.in_words(expression)}, time zone {time_zone}; working directory {workdir}.")
    service.run()
    say("Stopped. A run that was interrupted goes on when the same command is started again.")


@app.command()
def status(workdir: WorkdirOption = workdirs.DEFAULT, as_json: JsonOption = False) -> None:
    """Tell what the schedule of this machine is doing. Ends with exit code 1 if its process is dead.

    **Example**: `nnclr schedule status --workdir nnclr-runs` (as a container's health check)
    """
    from pipeline.local.schedule import service

    place = workdirs.Workdir(workdir)
    found = service.read(place)
    if not found:
        raise SettingsError(f"{place.schedule} does not exist: no schedule was run here.")
    age = service.age_seconds(place.schedule)
    alive = found["state"] != service.ENDED and age < service.STALE_SECONDS
    if as_json:
        print(json.dumps(found | {"alive": alive, "age_seconds": round(age, 1)}))
    else:
        print(f"{'alive' if alive else 'dead'}: {found['state']}, last sign of life {age:.0f} s ago.")
        if alive and found["state"] == service.RUNNING:
            print(f"Running since: {found['since']}")
        if alive and found.get("next"):
            print(f"Next run: {found['next']}")
        if found.get("last"):
            last = found["last"]
            print(f"Last run, {last['at']}: {last['outcome']} (exit code {last['exit_code']}). {last['detail']}")
    if not alive:
        raise typer.Exit(FAILED)


@app.command()
def simulate(
    workdir: Annotated[Path, typer.Option("--workdir", help="New folder for everything.")] = Path("nnclr-simulation"),
    as_json: JsonOption = False,
) -> None:
    """Show what a schedule does with new, unchanged, worse and corrupt data, and with a crash: some minutes.

    Five ticks on the embedded sample, each a real run with a registry of its own. Ends with exit code 1 if a tick came
    to something else than it should.

    **Example**: `nnclr schedule simulate`
    """
    from pipeline.local.schedule import simulation

    place = workdirs.Workdir(workdir)
    simulation.require_new(place)
    screen = Console(stderr=True, highlight=False)
    told = []
    for one in simulation.simulate(place, lambda story: screen.print(f"[bold]{story.day}[/] {story.news}")):
        told.append(one)
    if as_json:
        print(json.dumps([_story_as_json(one) for one in told]))
    else:
        table = Table()
        for header in ("Tick", "What happens", "Outcome", "Exit", "Tries", "Probe", "Champion", "Took"):
            table.add_column(header, no_wrap=header != "What happens")
        for one in told:
            found = _story_as_json(one)
            mark = "" if one.as_expected else f" [red](expected: {one.story.expected})[/]"
            table.add_row(
                *(one.story.day, one.story.news, f"{one.result.outcome}{mark}", str(one.result.exit_code)),
                *(str(one.result.tries), "" if found["probe_accuracy"] is None else f"{found['probe_accuracy']:.1%}"),
                *(str(one.champion or "none"), f"{one.seconds:.0f} s"),
            )
        Console().print(table)
        for one in told:
            if one.result.detail:
                write_line(Console(), f"{one.story.day}: {escape(one.result.detail)}")
        print(f"Next: nnclr models runs --workdir {workdir}")
    if not all(one.as_expected for one in told):
        raise typer.Exit(FAILED)


def _story_as_json(one: "Told") -> dict[str, Any]:
    evaluation = (one.result.summary or {}).get("evaluation") or {}
    return {
        **{"tick": one.story.day, "news": one.story.news, "outcome": one.result.outcome},
        **{"exit_code": one.result.exit_code, "tries": one.result.tries, "detail": one.result.detail},
        **{"probe_accuracy": evaluation.get("probe_accuracy"), "champion": one.champion},
        **{"seconds": round(one.seconds, 1), "as_expected": one.as_expected},
    }


def _schedules(host: str, namespace: str | None) -> "Schedules":
    from pipeline.kubeflow.runs import Host
    from pipeline.kubeflow.schedules import Schedules

    return Schedules(Host(host, namespace))


def _switch(schedule: str, host: str, namespace: str | None, on: bool) -> None:
    schedules = _schedules(host, namespace)
    found = schedules.find(schedule)
    schedules.switch(found, on)
    print(f"{found.name} is {'on' if on else 'paused'}.")


def _overrides(overrides: list[str] | None, data: str | None) -> list[str]:
    return [*(overrides or []), *data_override(data)]


def _run_arguments(
    preset: str | None, config_file: Path | None, overrides: list[str] | None, data: str | None
) -> list[str]:
    arguments = ["--preset", preset] if preset else []
    arguments += ["--config", str(config_file)] if config_file else []
    for override in _overrides(overrides, data):
        arguments += ["--set", override]
    return arguments


def _record_crash(place: workdirs.Workdir, model_name: str, source: str, result: "Ticked") -> None:
    from components.model_registry import ModelRegistry
    from components.model_registry.pipeline_runs import FAILED, PipelineRun, PipelineRuns

    runs = PipelineRuns(ModelRegistry(str(place.registry)), model_name)
    runs.record(PipelineRun(f"{datetime.now(UTC):%Y%m%d-%H%M%S}-killed", FAILED, result.detail, source))


def _as_json(schedule: "Schedule") -> dict[str, Any]:
    created = schedule.created.isoformat() if schedule.created else None
    return {
        **{"schedule_id": schedule.schedule_id, "name": schedule.name, "cron": schedule.cron},
        **{"enabled": schedule.enabled, "created": created, "page": schedule.page},
    }
