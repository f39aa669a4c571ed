"""The commands `nnclr compile`, `nnclr submit` and `nnclr runs`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.commands.options import (
    ConfigOption,
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
    settings_overrides,
)
from pipeline.terminal import output
from trainer.errors import FAILED, SettingsError


def compile_for_kubeflow(
    output_file: Annotated[Path, typer.Option("--output", "-o", help="YAML file to write.")],
    preset: PresetOption = None,
    config_file: ConfigOption = None,
    overrides: SetOption = None,
    data: DataOption = None,
) -> None:
    """Compile the pipeline for Kubeflow Pipelines: KFP v2 YAML, schema 2.1.

    The settings below `kubeflow` describe the cluster: image, resources and GPUs of the steps, Secrets, volumes.

    **Example**: `nnclr compile --preset stl10-resnet18 --data gs://bucket/images --set kubeflow.image=IMAGE
    --set kubeflow.steps.Trainer.gpus=1 -o pipeline.yaml`
    """
    from pipeline import config
    from pipeline.terminal import imports

    settings = config.load(preset, config_file, settings_overrides(overrides, data))
    if not settings.data.source or settings.data.source == config.SAMPLE:
        raise SettingsError(
            "The source of images is missing: name it with --data SOURCE, as gs://, s3:// or a path that the "
            "pods can read."
        )
    if not output_file.absolute().parent.is_dir():
        raise SettingsError(f"{output_file} cannot be written: the folder {output_file.parent} does not exist.")
    with output.captured():
        with imports.gc_paused():
            from pipeline.kubeflow import compile as kubeflow

        spec, platform = kubeflow.compile_pipeline(settings)
        kubeflow.write(spec, platform, output_file)
    steps = sum("executorLabel" in component for component in spec["components"].values())
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    print(f"Wrote {output_file}: pipeline {settings.name}, {steps} steps, image {settings.kubeflow.image}.")
    for name, parameter in sorted(parameters.items()):
        print(f"  {name} = {parameter['defaultValue']!r}: {parameter['description']}")
    print(f"Next: nnclr submit {output_file} --host URL [--param NAME=VALUE] --wait")


def submit(
    package: PackageArgument,
    host: HostOption,
    parameters: ParameterOption = None,
    experiment: ExperimentOption = None,
    service_account: ServiceAccountOption = None,
    namespace: NamespaceOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run until it ends.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two status requests of --wait.")] = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Start a run of a compiled pipeline on Kubeflow Pipelines.

    With --wait, exit with code 0 if the run succeeded, and 1 if it failed or was cancelled.

    **Example**: `nnclr submit pipeline.yaml --host http://localhost:8080 --param epochs=200 --wait`
    """
    from pipeline.kubeflow.host import Host
    from pipeline.kubeflow.package import read_package
    from pipeline.kubeflow.runs import Runs

    compiled = read_package(package)
    arguments = compiled.arguments(parameters or [])
    runs = Runs(Host(host, namespace))
    run = runs.submit(compiled, arguments, experiment or compiled.name, service_account)
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    screen.print(f"Run {run.run_id} of version {compiled.version}: {run.page}")
    if wait:
        try:
            run = runs.follow(
                run.run_id, compiled.tasks, lambda task, state: screen.print(f"  {task} {state.lower()}"), every
            )
        except KeyboardInterrupt:
            screen.print(f"Stopped waiting. The run continues: {run.page}")
            raise
    if as_json:
        output.print_json(run)
    elif wait:
        print(f"{run.name}: {run.outcome}")
    else:
        print(f"Next: nnclr runs --host {host}")
    if wait and run.state != "SUCCEEDED":
        raise typer.Exit(FAILED)


def list_runs(
    host: HostOption,
    experiment: Annotated[str | None, typer.Option(help="List only the runs of this experiment.")] = None,
    namespace: NamespaceOption = None,
    most: Annotated[int, typer.Option(min=1, max=200, help="Maximum number of runs, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the runs on Kubeflow Pipelines, newest first.

    **Example**: `nnclr runs --host http://localhost:8080 --experiment nnclr`
    """
    from pipeline.kubeflow.host import Host
    from pipeline.kubeflow.runs import Runs

    runs = Runs(Host(host, namespace)).newest(experiment, most)
    if as_json:
        output.print_json(runs)
        return
    table = Table("Created", "Run", "State", "Page")
    for run in runs:
        table.add_row(f"{run.created:%Y-%m-%d %H:%M}" if run.created else "", run.name, run.outcome, run.page)
    Console().print(table)
