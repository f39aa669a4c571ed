"""The command `nnclr suggest`."""

from typing import Annotated

import typer
from rich.console import Console

from pipeline.commands.options import EmbeddingsOption, JsonOption, PageOption
from pipeline.terminal import output
from pipeline.terminal.screen import Screen
from trainer.errors import BAD_DATA, DONE, FAILED, INTERRUPTED, WRONG_USAGE, exit_codes

EPILOG = exit_codes(DONE, FAILED, WRONG_USAGE, BAD_DATA, INTERRUPTED)


def suggest(
    embeddings: EmbeddingsOption,
    count: Annotated[int, typer.Option("--number", "-n", min=1, metavar="N", help="Number of images to label.")],
    labelled: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS",
            help="CSV file with the labels so far, in the form of labels.csv: file,label or file,label,split; local, "
            "gs:// or s3://. Labels in the embeddings count as well.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="CSV file to complete, local, gs:// or s3://: the labels of LABELS, and a line without a label for "
            "each image. By default print the images.",
        ),
    ] = None,
    html: PageOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice: the same seed gives the same images.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Suggest which images to label next, the most useful first.

    Choose images that are typical of many others as long as there are few labels, and later those of which a probe on
    the labels is least sure. Completed with labels, the table is the labels.csv that nnclr ingest takes, and the
    LABELS of the next call. Never test an encoder on suggested images: choose those at random.

    **Examples**

    `nnclr suggest -n 100 --in embeddings.parquet -o labels.csv`

    `nnclr suggest -n 100 --in embeddings.parquet --labelled labels.csv -o more-labels.csv`
    """
    from pipeline.local.paths import absolute

    with output.captured() as (_, stderr), Screen(Console(file=stderr)) as screen:
        screen.waiting("Choosing images")
        from pipeline.local import suggestion

        found = suggestion.suggest(absolute(embeddings), count, absolute(labelled), absolute(out), seed, absolute(html))
    if as_json:
        output.print_json(found)
        return
    if html:
        print(f"Page: {html}")
    if not out:
        for name in found.files:
            print(name)
        return
    chosen = f"{len(found.files):,} of {found.unlabelled:,} images without a label"
    print(f"Wrote {chosen} to {out}: {suggestion.REASONS[found.rule]} ({found.labelled:,} labels).")
    print(f"Next: complete the column label, and nnclr suggest -n {count} --in {embeddings} --labelled {out}")
