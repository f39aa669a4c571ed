"""The command `nnclr bench`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.commands.options import ConfigOption, JsonOption, PresetOption, SetOption
from pipeline.terminal import output
from pipeline.terminal.screen import Screen


def bench(
    preset: PresetOption = None,
    config_file: ConfigOption = None,
    overrides: SetOption = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Number of measurements of each quantity, in turns. A slow machine takes fewer.")
    ] = 5,
    log: Annotated[Path, typer.Option(help="File for the messages of TensorFlow.")] = Path("bench.log"),
    as_json: JsonOption = False,
) -> None:
    """Measure the training speed of this machine.

    Report the images per second in each precision, the share of the machine's arithmetic limit, and whether the input
    pipeline keeps up. No data is needed: the images are random. This takes one to five minutes on two cores.

    **Examples**

    `nnclr bench --preset stl10-convnet`

    `nnclr bench --preset stl10-resnet18 --set trainer.batch_size=512 --json`
    """
    from pipeline import config
    from pipeline.bench import machine
    from pipeline.bench.environment import environment
    from pipeline.bench.report import Report

    settings = config.load(preset, config_file, overrides or [])
    # Recorded first, because it includes the load of the machine before the measurement.
    machine_and_versions = environment()
    with output.captured(log) as (_, stderr), Screen(Console(file=stderr)) as screen:
        screen.waiting("Measuring")
        report = Report(machine_and_versions, machine.measure(settings.trainer, settings.data.image_size, rounds))
    if as_json:
        output.print_json(report)
    else:
        report.show()
