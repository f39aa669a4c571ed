"""The command `nnclr init`."""

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from trainer.errors import SettingsError


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write into; created if missing.")],
) -> None:
    """Write a commented settings file for your own images, and its JSON schema for completion in editors.

    **Example**: `nnclr init project && nnclr run --config project/config.yaml --data pictures`
    """
    from pipeline import config, settings_reference

    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"{folder} is a file: name a folder.")
    starter = resources.files("pipeline").joinpath("config", "starter.yaml").read_text(encoding="utf-8")
    settings_file = folder / "config.yaml"
    contents = {settings_file: starter, folder / config.SCHEMA_FILE: settings_reference.schema_text()}
    for file in contents:
        if file.exists():
            raise SettingsError(f"{file} already exists: name another folder, or delete the file.")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in contents.items():
        file.write_text(text, encoding="utf-8")
        print(f"Wrote {file}.")
    print(f"Next: set data.source in {settings_file} to the folder of your images, then start a run:")
    print(f"nnclr run --config {settings_file}")
