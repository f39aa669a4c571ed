"""Suggests which images of an embeddings file to label next."""

from typing import Literal, NamedTuple

import numpy as np

from components.artifact_files import Content
from components.embeddings import groups, label_choice, neighbours, reading
from components.embeddings.groups import Group
from components.embeddings.page import Page
from components.embeddings.reading import Embeddings
from components.image_example_gen.sources import files, labels_file
from components.image_example_gen.sources.folder_layout import split_of_name
from components.image_example_gen.sources.labels_file import COLUMNS, Row
from pipeline.local import tables
from pipeline.local.curation import Outputs
from trainer import splits
from trainer.errors import DataError, SettingsError

#: Why images are suggested, as the end of a sentence, by the name of the rule.
REASONS = {
    "typicality": "each is typical of many images without a label",
    "margin": "a probe that was fitted on the labels is least sure of them",
}
# Similar images that are shown beside a suggested one.
_SHOWN = 4


class Suggested(Content):
    """The result of the command.

    Attributes:
        files: Paths or ids of the suggested images, the most useful first.
        rule: Why they were chosen: they are typical of many images, or a probe on the labels is not sure of them.
        labelled: Number of labelled images that the choice took into account.
        unlabelled: Number of images without a label, the suggested ones included.
    """

    files: tuple[str, ...]
    rule: Literal["typicality", "margin"]
    labelled: int
    unlabelled: int


class _Images(NamedTuple):
    """The images of an embeddings file.

    Attributes:
        ids: Paths or ids, [N].
        classes: Names of the classes, [N]; None for an image without a label.
        is_test: Whether each image is in the split `test`, where all images have a label: bool [N].
    """

    ids: list[str]
    classes: list[str | None]
    is_test: np.ndarray


def suggest(
    embeddings: str, count: int, labelled: str | None, output: str | None, seed: int, page: str | None = None
) -> Suggested:
    """Suggests images, and writes them into a table for their labels.

    Args:
        embeddings: Path or URI of a Parquet file of embeddings.
        count: The number of images to suggest.
        labelled: Path or URI of a table in the form of `labels.csv` with labels so far, beside those that the
            embeddings hold; None if there is none.
        output: Path or URI of the table to write: the labels of `labelled`, and a line without a label for each
            suggested image. None writes none.
        seed: The seed of the choice.
        page: Path or URI of the page to write; None for none.

    Raises:
        DataError: If the labels cannot be used.
        SettingsError: If there are no such embeddings, too few images without a label, or the table cannot be written.
    """
    outputs = Outputs(page=page)
    outputs.require_usable()
    if output:
        tables.require_new(output)
    if labelled and not files.exists(labelled):
        raise SettingsError(f"--labelled {labelled} does not exist: correct its path.")
    rows = labels_file.parse(labelled, files.read(labelled)) if labelled else {}
    with reading.opened(embeddings) as file:
        images = _with_labels(file, labelled, rows)
        unlabelled = images.classes.count(None)
        if count > unlabelled:
            raise SettingsError(f"{embeddings} has {unlabelled:,} images without a label, and -n is {count:,}.")
        names = sorted({name for name in images.classes if name is not None})
        numbers = dict(zip(names, range(len(names)), strict=True))
        labels = np.array([splits.NO_LABEL if name is None else numbers[name] for name in images.classes], np.int64)
        # What the encoder is measured on must not decide what it learns from.
        usable = np.flatnonzero(~images.is_test)
        vectors = np.concatenate(list(file.vectors()))[usable]
        chosen, rule = label_choice.choose(vectors, labels[usable], count, seed)
        rows_chosen = usable[chosen]
        if page:
            outputs.write((), _page(file, rows_chosen, rule))
    suggested = tuple(images.ids[row] for row in rows_chosen)
    if output:
        known = [(name, row.label, row.split) for name, row in rows.items() if row.label]
        tables.write(output, COLUMNS, [*known, *((name, "", splits.TRAIN) for name in suggested)])
    return Suggested(files=suggested, rule=rule, labelled=len(usable) - unlabelled, unlabelled=unlabelled)


def _page(file: Embeddings, rows: np.ndarray, rule: str) -> Page:
    """Returns the suggested images, each beside those that are most similar to it."""
    table = file.images()
    queries = np.concatenate(list(file.vectors(unit=True)))[rows]
    near = neighbours.nearest(queries, file.vectors(unit=True), _SHOWN, rows)
    return Page(
        title=f"{len(rows):,} images to label",
        sentences=(f"Of the {len(table):,} images of {file.path}, these are the first to label: {REASONS[rule]}.",),
        groups=[
            Group(image=image, similar=groups.similar(table, *row))
            for image, *row in zip(groups.images(table, rows), near.rows, near.similarities, strict=True)
        ],
        role="to label",
    )


def _with_labels(file: Embeddings, labelled: str | None, rows: dict[str, Row]) -> _Images:
    """Returns the images of a file with their labels from it and from the rows of the table `labelled`."""
    table = file.images().to_pydict()
    ids, classes = table["id"], table["class"]
    is_test = np.array([split == splits.TEST for split in table["split"]])
    places = dict(zip(ids, range(len(ids)), strict=True))
    missing = [name for name in rows if name not in places]
    if missing:
        raise DataError(
            f"{labelled} names {len(missing)} images that are not in {file.path}, such as {missing[0]}: correct their "
            "names, which are those in the column id of the embeddings, or remove these lines."
        )
    for name, row in rows.items():
        place = places[name]
        if not row.label:
            continue
        if classes[place] not in (None, row.label):
            raise DataError(
                f"{labelled}, line {row.line}, gives {name} the label {row.label!r}, and {file.path} the label "
                f"{classes[place]!r}: correct one of them."
            )
        classes[place] = row.label
        is_test[place] |= split_of_name(row.split) == splits.TEST
    return _Images(ids, classes, is_test)
