"""The command `nnclr evaluate`."""

from typing import Annotated

import typer
from rich.console import Console

from pipeline.commands.options import ConfigOption, JsonOption, LabelledOption, PresetOption, SetOption
from pipeline.terminal import output
from pipeline.terminal.screen import Screen
from trainer.errors import BAD_DATA, DONE, FAILED, NOT_BLESSED, WRONG_USAGE, exit_codes

EPILOG = exit_codes(DONE, FAILED, WRONG_USAGE, BAD_DATA, NOT_BLESSED)


def evaluate(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Folder of an exported encoder, or the output of python -m trainer."),
    ],
    data: LabelledOption,
    out: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="Folder for the results; local, gs:// or s3://.")
    ] = "evaluation",
    preset: PresetOption = None,
    config_file: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate an encoder on labelled images, without the rest of the pipeline.

    Write the same results as the component LinearProbeEvaluator: report.html, metrics.json and the fitted probe. The
    settings of the section evaluator apply. The encoder is compared with an untrained one, but not with a champion.

    **Examples**

    `nnclr evaluate encoder --data examples`

    `nnclr evaluate encoder/model --data pictures --output results --set evaluator.fine_tuning={}`
    """
    from pipeline import config
    from pipeline.local.paths import absolute
    from pipeline.local.summary import evaluation_rows
    from pipeline.terminal import imports

    settings = config.load(preset, config_file, overrides or [])
    with output.captured() as (_, stderr), Screen(Console(file=stderr)) as screen:
        screen.waiting("Loading Beam and TensorFlow")
        with imports.gc_paused():
            from pipeline.local import single_steps
        metrics = single_steps.evaluate(settings, absolute(model), absolute(data), absolute(out))
    if as_json:
        output.print_json(metrics)
    else:
        for name, value in evaluation_rows(metrics):
            print(f"{name}: {value}")
        for check in metrics.checks:
            print(f"{'Met' if check.passed else 'Missed'}: {check.sentence}")
        for finding in metrics.findings:
            print(f"Note: {finding}")
        print(f"Report: {out.rstrip('/')}/report.html")
    if not metrics.blessed:
        raise typer.Exit(NOT_BLESSED)
