"""The command `nnclr doctor`."""

import json
import tempfile
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.commands.options import JsonOption
from pipeline.terminal import output
from pipeline.terminal.screen import write_line
from trainer.errors import FAILED


def doctor(as_json: JsonOption = False) -> None:
    """Check that this machine, or this container image, can run the pipeline: packages, devices, registry.

    Ends with exit code 1 if something is wrong.

    **Example**: `docker run --rm --gpus all IMAGE doctor`
    """
    from dataclasses import asdict

    write_line(Console(stderr=True), "Loading TensorFlow and TFX ...")
    with tempfile.TemporaryDirectory() as aside, output.captured(Path(aside, "doctor.log")):
        from pipeline import doctor

        findings = doctor.examine()
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    for finding in findings if not as_json else []:
        mark = "[green]fine[/]" if finding.fine else "[red]wrong[/]"
        write_line(Console(), f"{mark}  {finding.name}: {escape(finding.detail)}")
    if not all(finding.fine for finding in findings):
        raise typer.Exit(FAILED)
