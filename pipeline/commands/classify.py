"""The command `nnclr classify`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from components.image_example_gen.sources.opening import known_sources
from pipeline.commands.options import (
    ENCODER_FORMS,
    ConfigOption,
    EmbeddingsOption,
    JsonOption,
    PresetOption,
    SetOption,
    WorkdirOption,
)
from pipeline.local.workdir import DEFAULT_WORKDIR, Workdir
from pipeline.terminal import output
from pipeline.terminal.screen import Screen
from trainer.errors import BAD_DATA, BUSY, DAMAGED, DISK_FULL, DONE, FAILED, INTERRUPTED, WRONG_USAGE, exit_codes

if TYPE_CHECKING:
    from components.embeddings.classification import Prediction

EPILOG = exit_codes(DONE, FAILED, WRONG_USAGE, BAD_DATA, DAMAGED, BUSY, DISK_FULL, INTERRUPTED)


def classify(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE...",
            help=f"Picture files, or one source of images; local, gs:// or s3://. A source is {known_sources()}.",
        ),
    ] = None,
    embeddings: EmbeddingsOption = "",
    out: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="CSV file for the predictions, local, gs:// or s3://; a source needs one. By default print them.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help=f"Encoder: {ENCODER_FORMS}. By default the champion, or the registered version that EMBEDDINGS names.",
        ),
    ] = None,
    probe: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder with the fitted probe that nnclr evaluate wrote for the same encoder. By default the probe "
            "that the encoder was released with.",
        ),
    ] = None,
    most: Annotated[
        int, typer.Option("--top", min=1, metavar="K", help="Number of most probable classes for each image.")
    ] = 3,
    directory: WorkdirOption = DEFAULT_WORKDIR,
    preset: PresetOption = None,
    config_file: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Classify images: print or write the most probable classes of each, with their probabilities.

    The classes are those that the encoder's linear probe was fitted on. An image of anything else gets one of them,
    too. The settings of the groups data and beam apply. Classify many images as one source: the same command then goes
    on after an interruption. List the files that are left out in OUT.rejected.jsonl.

    **Examples**

    `nnclr classify cat.jpg dog.jpg`

    `nnclr classify s3://bucket/pictures -o predictions.csv --model nnclr-encoder@3`

    `nnclr classify --in embeddings.parquet -o predictions.csv --top 1`
    """
    from pipeline import config
    from pipeline.local.paths import absolute
    from pipeline.terminal import imports

    settings = config.load(preset, config_file, overrides or [])
    with output.captured() as (_, stderr), Screen(Console(file=stderr)) as screen:
        screen.waiting("Loading Beam and TensorFlow")
        with imports.gc_paused():
            from pipeline.local import classification
        found = classification.classify(
            settings,
            images or [],
            absolute(embeddings),
            model,
            absolute(probe),
            Workdir(directory),
            absolute(out),
            most,
        )
    if as_json:
        output.print_json(found)
        return
    for prediction in found.predictions:
        print(_line(prediction))
    if out:
        rejected = f"{found.rejected:,} rejected" + (f", see {out}.rejected.jsonl" if found.rejected else "")
        print(f"Wrote the predictions of {found.count:,} images to {out} ({rejected}).")
        for name, count in found.by_class.items():
            print(f"{count:>8,}  {name}")
        print(f"Encoder: {found.model}")
        output.print_left_out(found.left_out, f"{out}.rejected.jsonl")


def _line(prediction: "Prediction") -> str:
    guesses = (f"{guess.label} {guess.probability:.1%}" for guess in prediction.guesses)
    return "\t".join([prediction.file, *guesses])
