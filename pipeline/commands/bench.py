"""`nnclr bench`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.commands.options import ConfigOption, JsonOption, PresetOption, SetOption
from pipeline.terminal.screen import Screen

_LOG = "bench.log"


def bench(
    preset: PresetOption = None,
    config_file: ConfigOption = None,
    overrides: SetOption = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured, alternately.")] = 5,
    log: Annotated[Path, typer.Option(help="File for what TensorFlow tells.")] = Path(_LOG),
    as_json: JsonOption = False,
) -> None:
    """Measure how fast this machine trains: each precision, share of its limit, and whether reading keeps up.

    Needs no data: images are random. Takes about a minute on two cores.

    **Examples**

    `nnclr bench --preset stl10-convnet`

    `nnclr bench --preset stl10-resnet18 --set trainer.batch_size=512 --json`
    """
    from pipeline import config
    from pipeline.bench import machine, report
    from pipeline.bench.environment import environment
    from pipeline.terminal import output

    settings = config.load(preset, config_file, overrides or [])
    surroundings = environment()
    with output.captured(log) as (_, stderr), Screen(Console(file=stderr)) as screen:
        screen.waiting("Measuring")
        found = machine.tables(settings.trainer, settings.data.image_size, rounds)
    if as_json:
        print(json.dumps(report.as_dict(found, surroundings)))
    else:
        report.show(found, surroundings)
