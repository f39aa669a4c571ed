"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

WorkdirOption = Annotated[
    Path, typer.Option("--workdir", help="Folder for everything that runs write: data, artifacts, logs, registry.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, on the last line of stdout.")]
