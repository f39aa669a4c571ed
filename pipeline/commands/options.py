"""Options that several commands share."""

import json
from pathlib import Path
from typing import Annotated

import typer


def complete_presets(incomplete: str) -> list[str]:
    """Names of presets that start with what was typed, for the shell."""
    from pipeline import config

    return [name for name in config.presets() if name.startswith(incomplete)]


WorkdirOption = Annotated[
    Path, typer.Option("--workdir", help="Folder for everything that runs write: data, artifacts, logs, registry.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, on the last line of stdout.")]
PresetOption = Annotated[
    str | None, typer.Option(help="A shipped preset; see nnclr presets list.", autocompletion=complete_presets)
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML file with settings, on top of the preset.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="One setting, on top of both. May be repeated."),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="STL-10 directory or stl10_binary.tar.gz, TFDS data_dir, or folder of pictures; local or gs://. With "
        "{YYYY}, {MM}, {DD} or {SPAN} in it, the newest complete one.",
    ),
]


def data_override(data: str | None) -> list[str]:
    """`--data` as the setting that it stands for."""
    return [] if data is None else [f"data.source={json.dumps(data)}"]
