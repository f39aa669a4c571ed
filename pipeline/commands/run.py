"""The command `nnclr run`."""

import secrets
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.commands.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    PresetOption,
    SetOption,
    WorkdirOption,
    settings_overrides,
)
from pipeline.local.workdir import DEFAULT_WORKDIR, Workdir
from pipeline.terminal import output
from pipeline.terminal.screen import Screen, write_line
from trainer import failures
from trainer.errors import FAILED, INTERRUPTED, SettingsError, Stopped


def run(
    preset: PresetOption = None,
    config_file: ConfigOption = None,
    overrides: SetOption = None,
    data: DataOption = None,
    beam: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Beam pipeline option, for instance runner=DataflowRunner. Repeatable."
        ),
    ] = None,
    directory: WorkdirOption = DEFAULT_WORKDIR,
    accept_baseline_reset: Annotated[
        bool,
        typer.Option("--accept-baseline-reset", help="Release the encoder even if the champion cannot be compared."),
    ] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run every component, even if nothing changed.")] = False,
    retried: Annotated[
        bool,
        # A schedule tells of the last failure only.
        typer.Option("--retried", hidden=True, help="Send no notification of a failure that may pass."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the whole pipeline on this machine: ingest, validate, train, evaluate, push.

    The results of components whose inputs and settings did not change come from the cache, so an interrupted run
    resumes when the same command is run again.

    **Examples**

    `nnclr run --preset sample` (demo)

    `nnclr run --preset stl10-convnet --data stl10_binary.tar.gz`

    `nnclr run --data ~/pictures --set data.image_size=64 --set trainer.epochs=50`
    """
    from pipeline import config
    from pipeline.local import ending, runner, summary
    from pipeline.notifications import sending

    all_overrides = settings_overrides(overrides, data)
    for option in beam or []:
        if "=" not in option:
            raise SettingsError(f"--beam takes NAME=VALUE, for instance runner=PortableRunner, not {option!r}.")
        all_overrides.append(f"beam.{option}")
    if accept_baseline_reset:
        all_overrides.append("evaluator.accept_baseline_reset=true")
    settings = config.load(preset, config_file, all_overrides)
    sending.require_usable(settings.notify)
    workdir = Workdir(directory)
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    log = workdir.run(run_id) / "run.log"
    failure: BaseException | None = None
    result = None
    signal.signal(signal.SIGTERM, _stop)
    with workdir.locked():
        start = time.monotonic()
        with output.captured(log) as (_, stderr), Screen(Console(file=stderr)) as screen:
            screen.say(f"Run [bold]{run_id}[/] of pipeline {settings.name}, log {log}")
            try:
                result = runner.run(settings, workdir, run_id, screen, enable_cache=not no_cache)
            except (Exception, KeyboardInterrupt) as error:
                if isinstance(failures.as_user_error(error), failures.FileProblem | None):
                    import traceback

                    traceback.print_exc()
                failure, result = error, ending.failed(run_id, settings, error)
        _warn(ending.keep(workdir, result))
    if result and not failure:
        if as_json:
            output.print_json(result)
        else:
            summary.show(result, str(directory), Console())
            print(f"Took {time.monotonic() - start:.0f} s.", flush=True)
    if result and not (retried and failure and ending.is_retried(failure)):
        _warn(sending.send(settings.notify, ending.notice(settings, workdir, result)))
    if failure:
        _fail_run(failure, log, workdir)
    assert result is not None
    raise typer.Exit(summary.exit_code(result))


def _warn(problems: list[str]) -> None:
    for problem in problems:
        write_line(Console(stderr=True), f"[yellow]Warning:[/] {escape(problem)}")


def _stop(*_: object) -> NoReturn:
    raise Stopped("Stopped by SIGTERM. Run the same command again to resume; finished components are not repeated.")


def _fail_run(error: BaseException, log: Path, workdir: Workdir) -> NoReturn:
    from pipeline.local import ending

    if isinstance(error, KeyboardInterrupt):
        Console(stderr=True).print(
            "Interrupted. Run the same command again to resume; finished components are not repeated, and training "
            "continues from its last checkpoint."
        )
        raise typer.Exit(INTERRUPTED)
    write_line(Console(stderr=True), f"All runs: {escape(str(workdir.overview))}")
    if user_error := failures.as_user_error(error):
        raise user_error
    write_line(Console(stderr=True), f"[red]Failed:[/] {escape(ending.sentence(error))}")
    write_line(Console(stderr=True), f"The details are in {log}.")
    raise typer.Exit(FAILED)
