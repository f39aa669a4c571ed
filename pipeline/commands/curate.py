"""The commands that find images to leave out: `nnclr duplicates`, `nnclr leaks` and `nnclr outliers`."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipeline.commands.options import EmbeddingsOption, JsonOption, PageOption
from pipeline.terminal import output
from pipeline.terminal.screen import Screen
from trainer import splits
from trainer.errors import DISK_FULL, DONE, FAILED, WRONG_USAGE, exit_codes

if TYPE_CHECKING:
    from components.embeddings.groups import Group

EPILOG = exit_codes(DONE, FAILED, WRONG_USAGE, DISK_FULL)

# A longer list is for the page and the file.
_PRINTED = 10

_ListOption = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="LIST",
        help="File for the list of images to leave out, which data.exclude takes; local, gs:// or s3://; it ends in "
        ".jsonl.",
    ),
]
_ThresholdOption = Annotated[
    float,
    typer.Option(
        min=0, max=1, metavar="SIMILARITY", help="Least cosine similarity of copies. It depends on the encoder."
    ),
]
# With a weak encoder, different images have more than 0.998; copies of small photographs, recompressed, brighter or
# cropped by a pixel, have 0.999.
_THRESHOLD = 0.999


def duplicates(
    embeddings: EmbeddingsOption,
    threshold: _ThresholdOption = _THRESHOLD,
    out: _ListOption = None,
    html: PageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find images that resemble another one, and list all but one of each group.

    Keep an image of test rather than one of train, and one of train rather than an unlabelled one; within a split, keep
    the first in the file. Look at the page before you use the list: a similarity means something else with each
    encoder.

    **Examples**

    `nnclr duplicates --in embeddings.parquet --html duplicates.html -o duplicates.jsonl`

    `nnclr run --data pictures --set data.exclude=duplicates.jsonl`
    """
    from pipeline.local.paths import absolute

    with output.captured() as (_, stderr), Screen(Console(file=stderr)):
        from pipeline.local import curation

        outputs = curation.Outputs(absolute(out), absolute(html))
        found = curation.duplicates(absolute(embeddings), threshold, outputs)
    if as_json:
        output.print_json(found)
        return
    print(f"{found.duplicates:,} of {found.images:,} images resemble one that is kept (similarity {threshold:g}).")
    _print_groups(found.groups)
    _print_files(out, html, found.source)


def leaks(
    embeddings: EmbeddingsOption,
    between: Annotated[
        tuple[str, str],
        typer.Option(metavar="SPLIT SPLIT", help="The two splits: the images to list, and those to compare with."),
    ] = (splits.TRAIN, splits.TEST),
    threshold: _ThresholdOption = _THRESHOLD,
    out: _ListOption = None,
    html: PageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find images of one split that occur in another one, and list those of the first.

    **Examples**

    `nnclr leaks --in embeddings.parquet --between train test --html leaks.html -o leaks.jsonl`

    `nnclr leaks --in embeddings.parquet --between unlabelled test --json`
    """
    from pipeline.local.paths import absolute

    with output.captured() as (_, stderr), Screen(Console(file=stderr)):
        from pipeline.local import curation

        outputs = curation.Outputs(absolute(out), absolute(html))
        found = curation.leaks(absolute(embeddings), between, threshold, outputs)
    if as_json:
        output.print_json(found)
        return
    for split, other in (between, between[::-1]):
        print(
            f"{found.leaked[split]:,} of {found.images[split]:,} images of {split} resemble one of {other} "
            f"(similarity {threshold:g})."
        )
    _print_groups(found.groups)
    _print_files(out, html, found.source)


def outliers(
    embeddings: EmbeddingsOption,
    count: Annotated[int, typer.Option("--number", "-n", min=1, metavar="N", help="Number of images to find.")] = 50,
    neighbours: Annotated[
        int, typer.Option("--neighbours", "-k", min=1, metavar="K", help="Number of nearest neighbours of the score.")
    ] = 10,
    out: _ListOption = None,
    html: PageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the images that resemble the others least, and list them.

    The score of an image is the mean cosine distance to its K nearest neighbours. An outlier may be a broken or foreign
    picture, or a rare one that is worth most: look at the page before you use the list.

    **Examples**

    `nnclr outliers --in embeddings.parquet --html outliers.html`

    `nnclr outliers --in embeddings.parquet -n 20 -o outliers.jsonl`
    """
    from pipeline.local.paths import absolute

    with output.captured() as (_, stderr), Screen(Console(file=stderr)):
        from pipeline.local import curation

        outputs = curation.Outputs(absolute(out), absolute(html))
        found = curation.outliers(absolute(embeddings), neighbours, count, outputs)
    if as_json:
        output.print_json(found)
        return
    print(f"The most distant of {found.images:,} images (median distance {found.median:.3f}):")
    for each in found.outliers[:_PRINTED]:
        print(f"{each.distance:.3f}  {each.image.id}")
    _print_more(len(found.outliers))
    _print_files(out, html, found.source)


def _print_groups(groups: "Sequence[Group]") -> None:
    for group in groups[:_PRINTED]:
        copies = [f"{copy.id} ({copy.similarity:.4f})" for copy in group.similar[:_PRINTED]]
        more = f" and {len(group.similar) - _PRINTED:,} more" if len(group.similar) > _PRINTED else ""
        print(f"  {group.image.id}: {', '.join(copies)}{more}")
    _print_more(len(groups))


def _print_more(count: int) -> None:
    if count > _PRINTED:
        print(f"  and {count - _PRINTED:,} more")


def _print_files(out: str | None, html: str | None, source: str) -> None:
    if html:
        print(f"Page: {html}")
    if out:
        print(f"Next: nnclr run --data {shlex.quote(source)} --set data.exclude={shlex.quote(out)}")
