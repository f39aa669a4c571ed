"""Options that several commands share."""

import json
from pathlib import Path
from typing import Annotated

import typer

from components.image_example_gen.sources.opening import known_sources

WorkdirOption = Annotated[
    Path, typer.Option("--workdir", help="Folder for everything that runs write: data, artifacts, logs, registry.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, on the last line of stdout.")]
PresetOption = Annotated[str | None, typer.Option(help="A shipped preset; see nnclr presets list.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML file with settings, on top of the preset.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="One setting, on top of both. May be repeated."),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help=f"Path of the images, local or gs://: {known_sources()}. With {{YYYY}}, {{MM}}, {{DD}} or {{SPAN}} in the "
        "path, the newest complete span is used.",
    ),
]


def data_override(data: str | None) -> list[str]:
    """`--data` as the setting that it stands for."""
    return [] if data is None else [f"data.source={json.dumps(data)}"]
