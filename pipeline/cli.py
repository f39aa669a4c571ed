"""The command `nnclr`. Nothing heavy is imported before it is needed."""

import json
import secrets
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from pipeline import models, output, process
from pipeline import workdir as workdirs
from pipeline.bench import commands as bench_commands
from pipeline.kubeflow import commands as kubeflow_commands
from pipeline.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    PresetOption,
    SetOption,
    WorkdirOption,
    data_override,
)
from pipeline.schedule import commands as schedule_commands
from pipeline.screen import Screen, write_line
from trainer import failures
from trainer.errors import FAILED, INTERRUPTED, SettingsError, Stopped, exit_codes

app = typer.Typer(
    name="nnclr",
    help="Pretrains image encoders without labels by NNCLR, measures them, and ships the good ones to a model registry."
    "\n\nStart with: nnclr run --preset sample",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Puts data sets on disk.", no_args_is_help=True)
presets_app = typer.Typer(help="Shows the shipped settings.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(presets_app, name="presets")
app.add_typer(schedule_commands.app, name="schedule")

_errors = Console(stderr=True)


@app.command(epilog=exit_codes())
def run(
    preset: PresetOption = None,
    config_file: ConfigOption = None,
    overrides: SetOption = None,
    data: DataOption = None,
    beam: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="One Beam pipeline option, e.g. runner=DataflowRunner. Repeatable."),
    ] = None,
    workdir: WorkdirOption = workdirs.DEFAULT,
    accept_baseline_reset: Annotated[
        bool,
        typer.Option("--accept-baseline-reset", help="Release even where the champion cannot be compared with."),
    ] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run every component, even if nothing changed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the whole pipeline here: ingest, validate, train, evaluate, push.

    Components whose inputs and settings did not change are taken from the cache, so a run that broke off goes on
    where it was when it is started again.

    **Examples**

    `nnclr run --preset sample` (the demo)

    `nnclr run --preset stl10-convnet --data stl10_binary.tar.gz`

    `nnclr run --data ~/pictures --set data.image_size=64 --set trainer.epochs=50`
    """
    from pipeline import config, local, summary

    extra = data_override(data)
    for option in beam or []:
        if "=" not in option:
            raise SettingsError(f"--beam takes NAME=VALUE, for instance runner=FlinkRunner, not {option!r}.")
        extra.append(f"beam.{option}")
    if accept_baseline_reset:
        extra.append("evaluator.accept_baseline_reset=true")
    settings = config.load(preset, config_file, [*(overrides or []), *extra])
    place = workdirs.Workdir(workdir)
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    log = place.run(run_id) / "run.log"
    failure: BaseException | None = None
    result = None
    signal.signal(signal.SIGTERM, _stop)
    with place.locked():
        start = time.monotonic()
        with output.captured(log) as (_, stderr), Screen(Console(file=stderr)) as screen:
            screen.say(f"Run [bold]{run_id}[/] of pipeline {settings.name}, log {log}")
            try:
                result = local.run(settings, place, run_id, screen, enable_cache=not no_cache)
            except (Exception, KeyboardInterrupt) as error:
                if isinstance(failures.as_user_error(error), failures.FileProblem | None):
                    import traceback

                    traceback.print_exc()
                failure = error
        if failure:
            _fail_run(failure, log)
    assert result is not None
    if as_json:
        print(json.dumps(result))
    else:
        summary.show(result, str(workdir), Console())
        print(f"Took {time.monotonic() - start:.0f} s.")
    raise typer.Exit(summary.exit_code(result))


@app.command("compile")
def compile_for_kubeflow(
    output_file: Annotated[Path, typer.Option("--output", "-o", help="YAML file to write.")],
    preset: PresetOption = None,
    config_file: ConfigOption = None,
    overrides: SetOption = None,
    data: DataOption = None,
) -> None:
    """Compile the pipeline for Kubeflow Pipelines: KFP v2 YAML, schema 2.1.

    What the cluster needs to know is below `kubeflow` in the settings: image, resources, GPUs, Secrets, volumes.

    **Example**: `nnclr compile --preset stl10-resnet18 --data gs://bucket/images --set kubeflow.image=IMAGE
    --set kubeflow.gpus=1 -o pipeline.yaml`
    """
    from pipeline import config, loading

    settings = config.load(preset, config_file, [*(overrides or []), *data_override(data)])
    if not settings.data.source or settings.data.source == config.SAMPLE:
        raise SettingsError("Which images? Name them with --data SOURCE: gs://, or a path that the pods can read.")
    if not output_file.absolute().parent.is_dir():
        raise SettingsError(f"{output_file} cannot be written: there is no folder {output_file.parent}.")
    with tempfile.TemporaryDirectory() as aside, output.captured(Path(aside, "compile.log")):
        with loading.undisturbed():
            from pipeline.kubeflow import compile as kubeflow

        spec, platform = kubeflow.compile_pipeline(settings)
        kubeflow.write(spec, platform, output_file)
    steps = sum("executorLabel" in component for component in spec["components"].values())
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    print(f"Wrote {output_file}: pipeline {settings.name}, {steps} steps, image {settings.kubeflow.image}.")
    for name, parameter in sorted(parameters.items()):
        print(f"  {name} = {parameter['defaultValue']!r}: {parameter['description']}")
    print(f"Next: nnclr submit {output_file} --host URL [--param NAME=VALUE] --wait")


app.command("submit")(kubeflow_commands.submit)
app.command("runs")(kubeflow_commands.list_runs)
app.command("bench")(bench_commands.bench)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Check that this machine, or this container image, can run the pipeline: packages, devices, registry.

    Ends with exit code 1 if something is wrong.

    **Example**: `docker run --rm --gpus all IMAGE doctor`
    """
    from dataclasses import asdict

    write_line(_errors, "Loading TensorFlow and TFX ...")
    with tempfile.TemporaryDirectory() as aside, output.captured(Path(aside, "doctor.log")):
        from pipeline import doctor

        findings = doctor.examine()
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    for finding in findings if not as_json else []:
        mark = "[green]fine[/]" if finding.fine else "[red]wrong[/]"
        write_line(Console(), f"{mark}  {finding.name}: {escape(finding.detail)}")
    if not all(finding.fine for finding in findings):
        raise typer.Exit(FAILED)


@app.command()
def prune(
    keep_runs: Annotated[int, typer.Option(min=0, help="Keep the newest so many runs, with all they refer to.")] = 5,
    older_than: Annotated[
        float | None,
        typer.Option(min=0, max=36500, metavar="DAYS", help="Delete only what belongs to runs older than this."),
    ] = None,
    workdir: WorkdirOption = workdirs.DEFAULT,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; otherwise only say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the artifacts, logs and checkpoints of old runs.

    What a kept run made or used stays, and so do the registry and its versions (see nnclr models prune). A run after it
    computes again what it cannot take from the cache any more.

    **Examples**

    `nnclr prune` (says what would go)

    `nnclr prune --keep-runs 3 --older-than 30 --delete`
    """
    from datetime import timedelta

    from rich.filesize import decimal

    from pipeline import loading

    place = workdirs.Workdir(workdir)
    if not place.root.is_dir():
        raise SettingsError(f"There is no working directory {workdir}: name it with --workdir DIR.")
    with place.locked(), tempfile.TemporaryDirectory() as aside, output.captured(Path(aside, "prune.log")):
        with loading.undisturbed():
            from pipeline import metadata, pruning

            metadata.prepare(place)
            limit = None if older_than is None else timedelta(days=older_than)
            found, notes = pruning.find(place, keep_runs, limit)
        problems = pruning.delete(found) if delete else []
    size = sum(one.size for one in found)
    if as_json:
        chosen = [{"path": str(one.path), "kind": one.kind, "bytes": one.size} for one in found]
        print(json.dumps({"chosen": chosen, "bytes": size, "deleted": delete, "notes": notes + problems}))
        return
    for one in found:
        print(f"{decimal(one.size):>10}  {one.kind:10}  {one.path}")
    for sentence in notes + problems:
        write_line(Console(), escape(sentence))
    kinds = [f"{sum(one.kind == kind for one in found)} {kind}s" for kind in pruning.KINDS]
    print(f"{'Deleted' if delete else 'Would delete'} {decimal(size)}: {', '.join(kinds)}.")
    if found and not delete:
        print("Next: the same command with --delete")


def _stop(*_: object) -> NoReturn:
    raise Stopped("Asked to stop. Start the same command again: finished components are not repeated.")


def _fail_run(error: BaseException, log: Path) -> NoReturn:
    if isinstance(error, KeyboardInterrupt):
        _errors.print(
            "Interrupted. Start the same command again: finished components are not repeated, and training goes on "
            "where it was."
        )
        raise typer.Exit(INTERRUPTED)
    if told := failures.as_user_error(error):
        raise told
    message = " ".join(str(error).split())[:500]
    write_line(_errors, f"[red]Failed:[/] {type(error).__name__}: {escape(message)}")
    write_line(_errors, f"The whole story is in {log}.")
    raise typer.Exit(FAILED)


@data_app.command("sample")
def data_sample(out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to create.")]) -> None:
    """Draw the embedded sample: 8,500 coloured digits on photographic textures, in STL-10's layout.

    **Example**: `nnclr data sample sample && nnclr run --preset sample --data sample`
    """
    from pipeline.data import sample
    from trainer.progress import Reporter

    if out.exists() and any(out.iterdir()) if out.is_dir() else out.exists():
        raise SettingsError(f"{out} exists already: name a new folder.")
    with Screen(Console(stderr=True)):
        reporter = Reporter("Drawing", sum(sample.COUNTS.values()))
        sample.write_sample(out, reporter.advance)
    print(f"Wrote {', '.join(f'{n:,} {split}' for split, n in sample.COUNTS.items())} images to {out}.")
    print(f"Next: nnclr run --preset sample --data {out}")


@data_app.command("stl10")
def data_stl10(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to download into.")],
    url: Annotated[str | None, typer.Option(help="A mirror of stl10_binary.tar.gz.")] = None,
) -> None:
    """Download the official STL-10 archive (2.6 GB), going on where an earlier download broke off.

    Size and SHA-256 are checked. The archive stays packed: ingest reads it as it is.

    **Example**: `nnclr data stl10 data && nnclr run --preset stl10-convnet --data data/stl10_binary.tar.gz`
    """
    import dataclasses

    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from pipeline.data import stl10_download

    archive = stl10_download.STL10 if url is None else dataclasses.replace(stl10_download.STL10, url=url)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=archive.size)
        file = stl10_download.download(archive, out, lambda done: progress.update(task, completed=done))
    print(f"{file} is whole.")
    print(f"Next: nnclr run --preset stl10-convnet --data {file}")


@presets_app.command("list")
def presets_list() -> None:
    """List the presets and what each is for."""
    from pipeline import config

    for name, text in config.presets().items():
        print(f"{name}: {text.splitlines()[0].lstrip('# ')}")


@presets_app.command("show")
def presets_show(name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the preset.")]) -> None:
    """Print a preset, to copy and change: `nnclr presets show sample > mine.yaml`."""
    from pipeline import config

    config.load(name)
    print(config.presets()[name], end="")


def main() -> None:
    """Runs the command; a user's mistake ends in one sentence and its exit code."""
    process.complete()
    try:
        app()
    except Exception as error:
        told = failures.as_user_error(error)
        if told is None:
            raise
        write_line(_errors, f"[red]Error:[/] {escape(str(told))}")
        sys.exit(told.exit_code)


if __name__ == "__main__":
    main()
