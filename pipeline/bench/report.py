"""Tables with the machine they were measured on, for people and for programs."""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.bench.environment import environment
from pipeline.bench.measuring import Table


def as_dict(tables: list[Table], machine: dict[str, str]) -> dict[str, Any]:
    """For JSON: `environment`, and `tables` as `Table.as_dict` gives them."""
    return {"environment": machine, "tables": [table.as_dict() for table in tables]}


def show(tables: list[Table], machine: dict[str, str]) -> None:
    """Prints them."""
    # Wide enough for the figures where the output is no terminal.
    console = Console() if Console().is_terminal else Console(width=140)
    for name, value in machine.items():
        console.print(f"{name}: {value}", highlight=False)
    for table in tables:
        console.print()
        console.print(table.rendered())


def add_option(parser: argparse.ArgumentParser) -> None:
    """`--json FILE`, for `finish`."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the figures")


def finish(tables: list[Table], file: Path | None) -> None:
    """Prints tables, and writes them into a file if one is given."""
    machine = environment()
    show(tables, machine)
    if file:
        file.write_text(json.dumps(as_dict(tables, machine), indent=2), encoding="utf-8")
