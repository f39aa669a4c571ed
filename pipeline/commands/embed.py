"""The command `nnclr embed`."""

from typing import Annotated

import typer
from rich.console import Console

from components.image_example_gen.sources.opening import known_sources
from pipeline.commands.options import ENCODER_FORMS, ConfigOption, JsonOption, PresetOption, SetOption, WorkdirOption
from pipeline.local.workdir import DEFAULT_WORKDIR, Workdir
from pipeline.terminal import output
from pipeline.terminal.screen import Screen
from trainer.errors import BAD_DATA, BUSY, DAMAGED, DISK_FULL, DONE, FAILED, INTERRUPTED, WRONG_USAGE, exit_codes

EPILOG = exit_codes(DONE, FAILED, WRONG_USAGE, BAD_DATA, DAMAGED, BUSY, DISK_FULL, INTERRUPTED)

_NEXT = {
    ".parquet": "python -c \"import pandas; print(pandas.read_parquet('{}'))\"",
    ".npz": "python -c \"import numpy; print(numpy.load('{}')['embedding'])\"",
    ".projector": "tensorboard --logdir {}",
}


def embed(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help=f"Path of the images, local, gs:// or s3://: {known_sources()}.")
    ],
    out: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="File for the embeddings, local, gs:// or s3://; it ends in .parquet or .npz. Or a local folder for "
            "TensorBoard's projector, which ends in .projector.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help=f"Encoder: {ENCODER_FORMS}. By default the champion.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace embeddings of another encoder or of other images.")
    ] = False,
    directory: WorkdirOption = DEFAULT_WORKDIR,
    preset: PresetOption = None,
    config_file: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Embed all images of a source: write ids, paths, labels and vectors to one file.

    A VERSION is a number or an alias in the registry of the working directory, or in the one of MLFLOW_TRACKING_URI.
    The settings of the groups data and beam apply. The same command goes on after an interruption. List the files that
    are left out in OUT.rejected.jsonl.

    **Examples**

    `nnclr embed pictures -o embeddings.parquet`

    `nnclr embed s3://bucket/pictures -o embeddings.npz --model nnclr-encoder@3`

    `nnclr embed data/stl10_binary.tar.gz -o stl10.projector --model keras:EfficientNetB0`
    """
    from pipeline import config
    from pipeline.local.paths import absolute
    from pipeline.terminal import imports

    out = out.rstrip("/")
    settings = config.load(preset, config_file, overrides or [])
    champion = f"models:/{settings.registry.model_name}/{settings.registry.alias}"
    with output.captured() as (_, stderr), Screen(Console(file=stderr)) as screen:
        screen.waiting("Loading Beam and TensorFlow")
        with imports.gc_paused():
            from pipeline.local import embedding
        found = embedding.embed(
            settings, absolute(source), model or champion, Workdir(directory), absolute(out), overwrite
        )
    if as_json:
        output.print_json(found)
        return
    description = found.description
    rejected = f"{found.rejected:,} rejected" + (f", see {out}.rejected.jsonl" if found.rejected else "")
    if found.unchanged:
        print(f"{out} already holds these {description.count:,} embeddings ({rejected}).")
    else:
        print(f"Wrote {description.count:,} embeddings of length {description.length:,} to {out} ({rejected}).")
    print(f"Encoder: {description.model.title}")
    output.print_left_out(found.left_out, f"{out}.rejected.jsonl")
    print(f"Next: {next(line for ending, line in _NEXT.items() if found.path.endswith(ending)).format(out)}")
