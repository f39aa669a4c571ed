"""The command `nnclr doctor`."""

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.commands.options import JsonOption
from pipeline.terminal import output
from pipeline.terminal.screen import write_line
from trainer.errors import FAILED


def doctor(as_json: JsonOption = False) -> None:
    """Check whether this machine or container image can run the pipeline: packages, devices, registry.

    Exit with code 1 if a check fails.

    **Example**: `docker run --rm --gpus all IMAGE doctor`
    """
    write_line(Console(stderr=True), "Loading TensorFlow and TFX ...")
    with output.captured():
        from pipeline import doctor

        findings = doctor.run_checks()
    if as_json:
        output.print_json(findings)
    else:
        for finding in findings:
            mark = "[green]ok[/]    " if finding.ok else "[red]failed[/]"
            write_line(Console(), f"{mark}  {finding.name}: {escape(finding.detail)}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(FAILED)
