"""The commands `nnclr compile`, `nnclr submit` and `nnclr runs`."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.commands.options import ConfigOption, DataOption, JsonOption, PresetOption, SetOption, data_override
from pipeline.terminal import output
from trainer.errors import FAILED, SettingsError

if TYPE_CHECKING:
    from pipeline.kubeflow.runs import Run

HostOption = Annotated[
    str,
    typer.Option(
        envvar="KF_PIPELINES_ENDPOINT", help="Address of Kubeflow Pipelines; kfp's client takes care of logins."
    ),
]
NamespaceOption = Annotated[str | None, typer.Option(help="Namespace, on a host for several users.")]


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
    from pipeline import config
    from pipeline.terminal import imports

    settings = config.load(preset, config_file, [*(overrides or []), *data_override(data)])
    if not settings.data.source or settings.data.source == config.SAMPLE:
        raise SettingsError("Which images? Name them with --data SOURCE: gs://, or a path that the pods can read.")
    if not output_file.absolute().parent.is_dir():
        raise SettingsError(f"{output_file} cannot be written: there is no folder {output_file.parent}.")
    with tempfile.TemporaryDirectory() as aside, output.captured(Path(aside, "compile.log")):
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
    package: Annotated[Path, typer.Argument(metavar="PIPELINE.YAML", help="What nnclr compile wrote.")],
    host: HostOption,
    parameters: Annotated[
        list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the run. Repeatable.")
    ] = None,
    experiment: Annotated[str | None, typer.Option(help="Experiment; by default the pipeline's name.")] = None,
    service_account: Annotated[str | None, typer.Option(help="Kubernetes service account of the steps.")] = None,
    namespace: NamespaceOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run until it ends.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="With --wait: seconds between two looks.")] = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Start a run of a compiled pipeline on Kubeflow Pipelines.

    With --wait it ends with exit code 0 if the run succeeded, and 1 if it failed or was cancelled.

    **Example**: `nnclr submit pipeline.yaml --host http://localhost:8080 --param epochs=200 --wait`
    """
    from pipeline.kubeflow import runs

    compiled = runs.read_package(package)
    arguments = compiled.arguments(parameters or [])
    kubeflow = runs.Host(host, namespace)
    run = kubeflow.submit(compiled, arguments, experiment or compiled.name, service_account)
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    screen.print(f"Run {run.run_id}: {run.page}")
    if wait:
        try:
            run = kubeflow.follow(
                run.run_id, compiled.tasks, lambda task, state: screen.print(f"  {task} {state.lower()}"), every
            )
        except KeyboardInterrupt:
            screen.print(f"Not waiting any longer; the run goes on: {run.page}")
            raise
    if as_json:
        print(json.dumps(_as_json(run)))
    elif wait:
        print(f"{run.name}: {run.state.lower()}")
    else:
        print(f"Next: nnclr runs --host {host}")
    if wait and run.state != "SUCCEEDED":
        raise typer.Exit(FAILED)


def list_runs(
    host: HostOption,
    experiment: Annotated[str | None, typer.Option(help="Of this experiment alone.")] = None,
    namespace: NamespaceOption = None,
    most: Annotated[int, typer.Option(min=1, max=200, help="How many of the newest.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the runs on Kubeflow Pipelines, the newest first.

    **Example**: `nnclr runs --host http://localhost:8080 --experiment nnclr`
    """
    from pipeline.kubeflow import runs

    found = runs.Host(host, namespace).runs(experiment, most)
    if as_json:
        print(json.dumps([_as_json(run) for run in found]))
        return
    table = Table("Created", "Run", "State", "Page")
    for run in found:
        table.add_row(f"{run.created:%Y-%m-%d %H:%M}" if run.created else "", run.name, run.state.lower(), run.page)
    Console().print(table)


def _as_json(run: "Run") -> dict[str, Any]:
    created = run.created.isoformat() if run.created else None
    return {"run_id": run.run_id, "name": run.name, "state": run.state, "created": created, "page": run.page}
