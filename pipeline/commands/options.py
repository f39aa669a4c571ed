"""Options and arguments that several commands share."""

import json
from pathlib import Path
from typing import Annotated

import typer

from components.image_example_gen.sources.opening import known_sources


def complete_presets(incomplete: str) -> list[str]:
    """Names of presets that start with what was typed, for the shell."""
    from pipeline import config

    return [name for name in config.presets() if name.startswith(incomplete)]


#: The names of an encoder that `pipeline.local.encoders` understands, for help texts.
ENCODER_FORMS = (
    "NAME@VERSION or models:/NAME/VERSION, folder of a SavedModel or of a Keras model, output of python -m trainer, "
    ".keras file, keras:NETWORK for a network of keras.applications, or keras:NETWORK=WEIGHTS.h5"
)

EmbeddingsOption = Annotated[
    str,
    typer.Option(
        "--in",
        metavar="EMBEDDINGS",
        help="Parquet file of embeddings, as written by nnclr embed; local, gs:// or s3://.",
    ),
]
PageOption = Annotated[
    str | None,
    typer.Option(
        "--html",
        metavar="PAGE",
        help="HTML page with thumbnails to write, local, gs:// or s3://; it ends in .html.",
    ),
]
WorkdirOption = Annotated[
    Path,
    typer.Option("--workdir", help="Working directory: the folder for data, artifacts, logs and the model registry."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, on the last line of stdout.")]

# Settings
PresetOption = Annotated[
    str | None, typer.Option(help="Name of a shipped preset; see nnclr presets list.", autocompletion=complete_presets)
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML file with settings, which override those of the preset.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Setting that overrides the preset and the file. Repeatable."),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help=f"Path of the images, local, gs:// or s3://: {known_sources()}. With {{YYYY}}, {{MM}}, {{DD}} or {{SPAN}} "
        "in the path, the newest complete spans are used.",
    ),
]
LabelledOption = Annotated[
    str,
    typer.Option(
        metavar="SOURCE",
        help="Labelled images: any source of images, local, gs:// or s3://; or a folder that nnclr ingest wrote, "
        "local or gs://.",
    ),
]

# Kubeflow Pipelines
PackageArgument = Annotated[
    Path, typer.Argument(metavar="PIPELINE.YAML", help="Compiled pipeline, as written by nnclr compile.")
]
HostOption = Annotated[
    str,
    typer.Option(
        envvar="KF_PIPELINES_ENDPOINT", help="Address of Kubeflow Pipelines. The kfp client handles authentication."
    ),
]
NamespaceOption = Annotated[str | None, typer.Option(help="Kubernetes namespace, if the host has several users.")]
ExperimentOption = Annotated[
    str | None, typer.Option(help="Experiment for the runs; by default the name of the pipeline.")
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="Value of a run parameter. Repeatable."),
]
ServiceAccountOption = Annotated[str | None, typer.Option(help="Kubernetes service account under which the steps run.")]

# Schedules
CronOption = Annotated[
    str,
    typer.Option(
        "--cron", metavar="CRON", help='Cron expression of five fields, for instance "0 3 * * 1": Mondays at 03:00.'
    ),
]


def settings_overrides(overrides: list[str] | None, data: str | None) -> list[str]:
    """Combines the values of `--set` and `--data` into overrides for `config.load`; `--data` wins."""
    return [*(overrides or []), *([] if data is None else [f"data.source={json.dumps(data)}"])]
