"""The command `nnclr schedule`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.commands.options import (
    ConfigOption,
    CronOption,
    DataOption,
    ExperimentOption,
    HostOption,
    JsonOption,
    NamespaceOption,
    PackageArgument,
    ParameterOption,
    PresetOption,
    ServiceAccountOption,
    SetOption,
    WorkdirOption,
    settings_overrides,
)
from pipeline.local.workdir import DEFAULT_WORKDIR, Workdir
from pipeline.terminal import output
from pipeline.terminal.screen import write_line
from trainer.errors import FAILED, SettingsError

if TYPE_CHECKING:
    from pipeline.kubeflow.schedules import Schedules
    from pipeline.local.schedule.tick import TickResult

_ONLY_NEW = "only_new"

app = typer.Typer(
    help="Retrain at fixed times."
    "\n\nOn Kubeflow Pipelines, use create, list, pause, resume and delete. On a machine without Kubernetes, use run "
    "and status. To see how good, bad and corrupt data are handled, use simulate."
    "\n\nA scheduled run trains on the newest complete data. It trains nothing if an earlier run used the same data "
    "and settings, and it replaces the champion only with an encoder that is not worse on the same images. See also: "
    "nnclr models runs.",
    no_args_is_help=True,
)

ScheduleArgument = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Name or id of the schedule.")]


@app.command()
def create(
    package: PackageArgument,
    expression: CronOption,
    host: HostOption,
    name: Annotated[str | None, typer.Option(help="Name of the schedule; by default the name of the pipeline.")] = None,
    parameters: ParameterOption = None,
    experiment: ExperimentOption = None,
    service_account: ServiceAccountOption = None,
    namespace: NamespaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a schedule on Kubeflow Pipelines: a recurring run.

    Runs never overlap; of the missed times, only the latest runs. The cron expression is in the time zone of the host:
    UTC, unless its administrator set CRON_SCHEDULE_TIMEZONE. A run trains nothing if an earlier run used the same
    images and settings; --param only_new=0 changes that.

    **Example**: `nnclr schedule create pipeline.yaml --host http://localhost:8080 --cron "0 3 * * 1"
    --param 'source=gs://bucket/images/{YYYY}-{MM}-{DD}'`
    """
    from pipeline import cron
    from pipeline.kubeflow.package import read_package

    expression = cron.validated(expression)
    # Reports an expression that Kubeflow Pipelines does not support before the host is asked.
    cron.to_kubeflow(expression)
    compiled = read_package(package)
    arguments = compiled.arguments(parameters or [])
    if _ONLY_NEW in compiled.parameters:
        arguments.setdefault(_ONLY_NEW, 1)
    schedule = _schedules(host, namespace).create(
        name or compiled.name, expression, compiled, arguments, experiment or compiled.name, service_account
    )
    if as_json:
        output.print_json(schedule)
        return
    print(f"{schedule.name}: {cron.in_words(expression)}, in the time zone of the host (by default UTC).")
    print(f"Page: {schedule.page}")
    print(f"Next: nnclr schedule list --host {host}")


@app.command("list")
def list_schedules(host: HostOption, namespace: NamespaceOption = None, as_json: JsonOption = False) -> None:
    """List the schedules on Kubeflow Pipelines.

    **Example**: `nnclr schedule list --host http://localhost:8080`
    """
    schedules = _schedules(host, namespace).list()
    if as_json:
        output.print_json(schedules)
        return
    table = Table("Schedule", "Cron", "State", "Created", "Id")
    for schedule in schedules:
        state = "on" if schedule.enabled else "paused"
        created = f"{schedule.created:%Y-%m-%d %H:%M}" if schedule.created else ""
        table.add_row(schedule.name, schedule.cron, state, created, schedule.schedule_id)
    Console().print(table)


@app.command()
def pause(name: ScheduleArgument, host: HostOption, namespace: NamespaceOption = None) -> None:
    """Pause a schedule on Kubeflow Pipelines: it starts no runs until it is resumed.

    **Example**: `nnclr schedule pause nnclr --host http://localhost:8080`
    """
    _switch(name, host, namespace, on=False)


@app.command()
def resume(name: ScheduleArgument, host: HostOption, namespace: NamespaceOption = None) -> None:
    """Resume a paused schedule on Kubeflow Pipelines. If it missed any times, a run starts immediately.

    **Example**: `nnclr schedule resume nnclr --host http://localhost:8080`
    """
    _switch(name, host, namespace, on=True)


@app.command()
def delete(name: ScheduleArgument, host: HostOption, namespace: NamespaceOption = None) -> None:
    """Delete a schedule on Kubeflow Pipelines, but not its runs.

    **Example**: `nnclr schedule delete nnclr --host http://localhost:8080`
    """
    schedules = _schedules(host, namespace)
    schedule = schedules.find(name)
    schedules.delete(schedule)
    print(f"{schedule.name} is deleted.")


@app.command()
def run(
    expression: CronOption,
    preset: PresetOption = None,
    config_file: ConfigOption = None,
    overrides: SetOption = None,
    data: DataOption = None,
    directory: WorkdirOption = DEFAULT_WORKDIR,
    time_zone: Annotated[
        str, typer.Option(help="Time zone of the cron expression, for instance Europe/Berlin.")
    ] = "UTC",
    retries: Annotated[int, typer.Option(min=0, help="How often an interrupted run is started again.")] = 2,
) -> None:
    """Retrain at fixed times on this machine, for example under systemd, in a container or in tmux.

    Runs never overlap; missed times are skipped. When the process is started again, it resumes an interrupted run. On
    SIGTERM, a running training saves its state before the process ends.

    schedule.json in the working directory is the health file, which nnclr schedule status reads.

    **Example**: `nnclr schedule run --cron "0 3 * * 1" --preset stl10-resnet18
    --data '/data/images/{YYYY}-{MM}-{DD}' --set trainer.warm_start=champion`
    """
    from pipeline import config, cron
    from pipeline.local import ending
    from pipeline.local.schedule.service import Service, handle_signals
    from pipeline.local.schedule.tick import Runner
    from pipeline.notifications import sending

    expression, zone = cron.validated(expression), cron.time_zone(time_zone)
    all_overrides = settings_overrides(overrides, data)
    # Reports invalid settings now instead of at the first scheduled time.
    settings = config.load(preset, config_file, all_overrides)
    if not settings.data.source:
        raise SettingsError("The source of images is missing: name it with --data SOURCE.")
    sending.require_usable(settings.notify)
    workdir = Workdir(directory)
    console = Console(stderr=True, highlight=False)

    def say(text: str) -> None:
        write_line(console, f"[bold]schedule[/] {text}")

    def on_crash(result: "TickResult") -> None:
        for problem in sending.send(settings.notify, ending.killed_notice(settings, workdir, result.detail)):
            say(f"[yellow]Warning:[/] {escape(problem)}")
        _record_crash(workdir, settings.registry.model_name, settings.data.source or "", result)

    runner = Runner(_run_arguments(preset, config_file, all_overrides), workdir, retries)
    service = Service(expression, zone, runner, workdir, on_crash, say)
    handle_signals(service)
    say(f"{cron.in_words(expression)}, time zone {time_zone}; working directory {directory}.")
    service.run()
    say("Stopped. Run the same command again to resume an interrupted run.")


@app.command()
def status(directory: WorkdirOption = DEFAULT_WORKDIR, as_json: JsonOption = False) -> None:
    """Show the state of the schedule of this machine, and exit with code 1 if its process is dead.

    **Example**: `nnclr schedule status --workdir nnclr-runs` (as a container's health check)
    """
    from pipeline.local.schedule import state

    workdir = Workdir(directory)
    schedule = state.read(workdir)
    if schedule is None:
        raise SettingsError(f"{workdir.schedule} does not exist: no schedule was run in this working directory.")
    age = state.age_seconds(workdir)
    alive = schedule.state != state.ENDED and age < state.STALE_SECONDS
    if as_json:
        output.print_json(schedule.model_dump() | {"alive": alive, "age_seconds": round(age, 1)})
    else:
        print(f"{'alive' if alive else 'dead'}: {schedule.state}, last update {age:.0f} s ago.")
        if alive and schedule.state == state.RUNNING:
            print(f"Running since: {schedule.since}")
        if alive and schedule.next:
            print(f"Next run: {schedule.next}")
        if last := schedule.last:
            print(f"Last run, {last.at}: {last.outcome} (exit code {last.exit_code}). {last.detail}")
    if not alive:
        raise typer.Exit(FAILED)


@app.command()
def simulate(
    directory: Annotated[Path, typer.Option("--workdir", help="New folder for the simulation.")] = Path(
        "nnclr-simulation"
    ),
    as_json: JsonOption = False,
) -> None:
    """Show how a schedule handles new, unchanged, worse and corrupt data, and a crash.

    Simulate eight ticks on the embedded sample, which takes some minutes. Each tick is a real run; all share a registry
    of their own. Exit with code 1 if the outcome of a tick is not the expected one.

    **Example**: `nnclr schedule simulate`
    """
    from pipeline.local.schedule import simulation

    workdir = Workdir(directory)
    simulation.require_new(workdir)
    screen = Console(stderr=True, highlight=False)

    def show_scenario(scenario: simulation.Scenario) -> None:
        screen.print(f"[bold]{scenario.day}[/] {scenario.news}")

    ticks = list(simulation.simulate(workdir, show_scenario))
    if as_json:
        output.print_json(ticks)
    else:
        table = Table()
        for header in ("Tick", "What happens", "Outcome", "Exit", "Tries", "Probe", "Champion", "Time"):
            table.add_column(header, no_wrap=header != "What happens")
        for tick in ticks:
            mark = "" if tick.as_expected else f" [red](expected: {tick.expected})[/]"
            table.add_row(
                *(tick.tick, tick.news, f"{tick.outcome}{mark}", str(tick.exit_code), str(tick.tries)),
                "" if tick.probe_accuracy is None else f"{tick.probe_accuracy:.1%}",
                *(str(tick.champion or "none"), f"{tick.seconds:.0f} s"),
            )
        Console().print(table)
        for tick in ticks:
            if tick.detail:
                write_line(Console(), f"{tick.tick}: {escape(tick.detail)}")
        print(f"Next: nnclr models runs --workdir {directory}")
    if not all(tick.as_expected for tick in ticks):
        raise typer.Exit(FAILED)


def _schedules(host: str, namespace: str | None) -> "Schedules":
    from pipeline.kubeflow.host import Host
    from pipeline.kubeflow.schedules import Schedules

    return Schedules(Host(host, namespace))


def _switch(name: str, host: str, namespace: str | None, on: bool) -> None:
    schedules = _schedules(host, namespace)
    schedule = schedules.find(name)
    schedules.switch(schedule, on)
    print(f"{schedule.name} is {'on' if on else 'paused'}.")


def _run_arguments(preset: str | None, config_file: Path | None, overrides: list[str]) -> list[str]:
    """Returns the arguments with which `nnclr run` loads the same settings."""
    arguments = ["--preset", preset] if preset else []
    arguments += ["--config", str(config_file)] if config_file else []
    for override in overrides:
        arguments += ["--set", override]
    return arguments


def _record_crash(workdir: Workdir, model_name: str, source: str, result: "TickResult") -> None:
    from components.model_registry import ModelRegistry
    from components.model_registry.pipeline_runs import FAILED, PipelineRun, PipelineRuns
    from pipeline.local import tracking

    runs = PipelineRuns(ModelRegistry(str(workdir.registry)), model_name)
    # It was killed either before it recorded its start, or after that.
    killed = runs.unfinished(tracking.place(workdir))
    run = killed.run if killed else f"{datetime.now(UTC):%Y%m%d-%H%M%S}-killed"
    runs.record(PipelineRun(run, FAILED, result.detail, source))
