"""Small JSON files inside artifacts, local or in a bucket: how components tell each other what has no place in TFX."""

import json
import os
from typing import Any

from tfx.dsl.io import fileio

from trainer import aside


def write(directory: str, name: str, content: Any) -> None:
    """Writes a file that appears whole."""
    fileio.makedirs(directory)
    path = os.path.join(directory, name)
    unfinished = aside.beside(path)
    with fileio.open(unfinished, "w") as file:
        file.write(json.dumps(content, indent=2))
    fileio.rename(unfinished, path, overwrite=True)


def read(directory: str, name: str) -> Any:
    """Reads what `write` wrote."""
    with fileio.open(os.path.join(directory, name)) as file:
        return json.loads(file.read())
