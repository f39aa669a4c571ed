"""The command `nnclr ingest`."""

from typing import Annotated

import typer
from rich.console import Console

from components.image_example_gen.sources.opening import known_sources
from pipeline.commands.options import ConfigOption, JsonOption, PresetOption, SetOption
from pipeline.terminal import output
from pipeline.terminal.screen import Screen


def ingest(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help=f"Path of the images, local, gs:// or s3://: {known_sources()}.")
    ],
    out: Annotated[str, typer.Argument(metavar="OUT", help="New folder for the TFRecords; local or gs://.")],
    preset: PresetOption = None,
    config_file: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ingest images into TFRecords, without the rest of the pipeline.

    Write the same folder as the component ImageExampleGen: TFRecords in Split-unlabelled/, Split-train/ and
    Split-test/, and dataset.json. The settings of the group data, except those of spans, and beam apply.
    List the files that are left out in rejected.jsonl.

    **Examples**

    `nnclr ingest pictures examples --set data.image_size=64`

    `python -m trainer examples encoder`
    """
    from pipeline import config
    from pipeline.local.paths import absolute
    from pipeline.terminal import imports

    settings = config.load(preset, config_file, overrides or [])
    with output.captured() as (_, stderr), Screen(Console(file=stderr)) as screen:
        screen.waiting("Loading Beam and TensorFlow")
        with imports.gc_paused():
            from pipeline.local import single_steps
        dataset = single_steps.ingest(settings, absolute(source), absolute(out))
    if as_json:
        output.print_json(dataset)
        return
    counts = ", ".join(f"{count:,} {split}" for split, count in dataset.counts.items())
    size = dataset.image_size
    print(f"Wrote {counts} images of {size} x {size} pixels to {out} ({dataset.rejected} rejected).")
    output.print_left_out(dataset.left_out, f"{out}/rejected.jsonl")
    print(f"Next: python -m trainer {out} encoder")
