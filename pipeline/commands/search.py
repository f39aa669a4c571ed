"""The command `nnclr search`."""

from typing import Annotated

import typer
from rich.console import Console

from pipeline.commands.options import ENCODER_FORMS, EmbeddingsOption, JsonOption, PageOption, WorkdirOption
from pipeline.local.workdir import DEFAULT_WORKDIR, Workdir
from pipeline.terminal import output
from pipeline.terminal.screen import Screen
from trainer.errors import BAD_DATA, DAMAGED, DONE, FAILED, WRONG_USAGE, exit_codes

EPILOG = exit_codes(DONE, FAILED, WRONG_USAGE, BAD_DATA, DAMAGED)


def search(
    query: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE|ID",
            help="Picture file, local, gs:// or s3://; or the id of an image in EMBEDDINGS, which comes first.",
        ),
    ],
    embeddings: EmbeddingsOption,
    count: Annotated[int, typer.Option("--number", "-k", min=1, metavar="K", help="Number of images to find.")] = 12,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help=f"Encoder of EMBEDDINGS, for a picture file: {ENCODER_FORMS}. By default the registered version that "
            "EMBEDDINGS names.",
        ),
    ] = None,
    html: PageOption = None,
    directory: WorkdirOption = DEFAULT_WORKDIR,
    as_json: JsonOption = False,
) -> None:
    """Search embeddings for the images that are most similar to an image.

    Compare the image with all others by cosine similarity. Refuse a picture file if MODEL is not the encoder of the
    embeddings.

    **Examples**

    `nnclr search photo.jpg --in embeddings.parquet --html similar.html`

    `nnclr search train/cat/0001.jpg --in s3://bucket/embeddings.parquet -k 100 --json`
    """
    from pipeline.local.paths import absolute

    with output.captured() as (_, stderr), Screen(Console(file=stderr)) as screen:
        screen.waiting("Searching")
        from pipeline.local import searching

        found = searching.search(query, absolute(embeddings), count, model, Workdir(directory), absolute(html))
    if as_json:
        output.print_json(found)
        return
    for image in found.similar:
        print(f"{image.similarity:.4f}  {image.id}{'' if image.class_name is None else f'  ({image.class_name})'}")
    if html:
        print(f"Page: {html}")
