"""Benchmark tables together with the machine that they were measured on."""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from pipeline.bench.environment import environment
from pipeline.bench.measuring import Table


@dataclass(frozen=True)
class Report:
    """The results of benchmarks.

    Attributes:
        environment: The machine and its versions, as returned by `environment`.
        tables: The results.
    """

    environment: dict[str, str]
    tables: list[Table]

    def show(self) -> None:
        """Prints the report."""
        # Without a terminal, Rich assumes 80 columns, which are too few for the figures.
        console = Console() if Console().is_terminal else Console(width=140)
        for name, value in self.environment.items():
            console.print(f"{name}: {value}", highlight=False)
        for table in self.tables:
            console.print()
            console.print(table.rendered())


def add_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--json FILE`, whose value `finish` takes."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the figures")


def finish(tables: list[Table], file: Path | None) -> None:
    """Prints a report, and writes it as JSON if a file is given."""
    report = Report(environment(), tables)
    report.show()
    if file:
        file.write_text(json.dumps(asdict(report), indent=2), encoding="utf-8")
