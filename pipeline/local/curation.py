"""Finds images to leave out of a source by their embeddings: duplicates, leaks between splits, and outliers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from components import artifact_files
from components.artifact_files import Content
from components.embeddings import groups, neighbours, page, reading
from components.embeddings.description import Model
from components.embeddings.groups import Group
from components.embeddings.page import Page
from components.image_example_gen import rejections
from components.image_example_gen.rejections import Rejected
from trainer import splits, storage
from trainer.errors import SettingsError

LIST_ENDING, PAGE_ENDING = ".jsonl", ".html"
# Labels cost more than images, and a changed test set makes results incomparable.
_KEPT_FIRST = (splits.TEST, splits.TRAIN, splits.UNLABELLED)
_BORDERLINE = (
    "The group with the least similar image comes first: if its images are not copies, choose a higher --threshold; if "
    "they are, try a lower one."
)
_NOTHING = "If you know of copies among them, try a lower --threshold."
# Similar images that are shown beside an outlier.
_SHOWN = 6


@dataclass(frozen=True)
class Outputs:
    """The files that a command writes.

    Attributes:
        listing: Path or URI of the list of images to leave out; None for no list.
        page: Path or URI of the page; None for no page.
    """

    listing: str | None = None
    page: str | None = None

    def require_usable(self) -> None:
        """Refuses paths that cannot be written, before anything is computed.

        Raises:
            SettingsError: If a path has another ending or names an unknown storage.
        """
        for option, path, ending in (("-o", self.listing, LIST_ENDING), ("--html", self.page, PAGE_ENDING)):
            if path and not path.endswith(ending):
                raise SettingsError(f"{option} is {path}: end the name with {ending}.")
            if path and "://" in path and not storage.in_bucket(path):
                known = " or ".join(storage.BUCKETS)
                raise SettingsError(f"{option} is {path}: name a local file, or one under {known}.")

    def write(self, listed: Iterable[Rejected], shown: Page) -> None:
        """Writes the files that were asked for.

        Raises:
            SettingsError: If the storage fails.
        """
        if self.listing:
            with storage.explained(self.listing, SettingsError):
                artifact_files.write(self.listing, rejections.lines(listed).encode())
        if self.page:
            with storage.explained(self.page, SettingsError):
                artifact_files.write(self.page, page.render(shown).encode())


class Curated(Content):
    """What was searched for images to leave out.

    Attributes:
        path: Path or URI of the embeddings.
        model: The encoder.
        source: Path or URI of the images.
    """

    path: str
    model: Model
    source: str


class Duplicates(Curated):
    """Images that resemble another image of a file of embeddings.

    Attributes:
        threshold: The least similarity of duplicates.
        images: Number of images that were compared.
        duplicates: Number of images that resemble one that is kept.
        groups: The images that are kept, with their duplicates.
    """

    threshold: float
    images: int
    duplicates: int
    groups: tuple[Group, ...]


class Leaks(Curated):
    """Images of one split that resemble an image of another split.

    Attributes:
        threshold: The least similarity of an image and its copy.
        images: Number of images of each of the two splits.
        leaked: Number of images of each split that resemble one of the other split.
        groups: Images of the second split, with those of the first split that resemble them most.
    """

    threshold: float
    images: dict[str, int]
    leaked: dict[str, int]
    groups: tuple[Group, ...]


class Outlier(Group):
    """An image that resembles no other, and those that it resembles most.

    Attributes:
        distance: The mean cosine distance to the nearest neighbours.

    Beyond the first outliers, which a page shows, the similar images are not searched.
    """

    distance: float


class Outliers(Curated):
    """The images that are farthest from all others.

    Attributes:
        neighbours: Number of nearest neighbours of which the mean distance is the score.
        images: Number of images that were compared.
        median: The median score of all images.
        outliers: The images with the highest scores, the highest first.
    """

    neighbours: int
    images: int
    median: float
    outliers: tuple[Outlier, ...]


def duplicates(path: str, threshold: float, outputs: Outputs) -> Duplicates:
    """Finds images that resemble another image, and lists all but one of each group.

    An image of `test` is kept rather than one of `train`, and this rather than an unlabelled one; within a split, the
    first in the file is kept.

    Args:
        path: Path or URI of the embeddings.
        threshold: The least cosine similarity of duplicates.
        outputs: The files to write.

    Raises:
        SettingsError: If the embeddings cannot be read, or an output cannot be written.
    """
    outputs.require_usable()
    with reading.opened(path) as embeddings:
        table, model, source = embeddings.images(), embeddings.description.model, embeddings.description.source
        order = np.concatenate([_rows(table, split) for split in _KEPT_FIRST])
        with neighbours.unit_matrix(embeddings) as matrix:
            matches = neighbours.duplicates(matrix, order, threshold)
    found = groups.of_matches(table, matches)
    count = len(matches.rows)
    outputs.write(
        _copies(found, "a duplicate of"),
        Page(
            title=f"{count:,} duplicates",
            sentences=(
                f"{count:,} of the {len(table):,} images of {path} resemble another image that is kept, with a cosine "
                f"similarity of at least {threshold:g} by {model.title}.",
                _BORDERLINE if found else _NOTHING,
            ),
            groups=found,
            role="kept",
            classes_should_agree=True,
        ),
    )
    return Duplicates(
        path=path,
        model=model,
        source=source,
        threshold=threshold,
        images=len(table),
        duplicates=count,
        groups=tuple(found),
    )


def leaks(path: str, between: tuple[str, str], threshold: float, outputs: Outputs) -> Leaks:
    """Finds images of one split that resemble an image of another split, and lists those of the first.

    Args:
        path: Path or URI of the embeddings.
        between: The names of the two splits.
        threshold: The least cosine similarity of an image and its copy.
        outputs: The files to write.

    Raises:
        SettingsError: If the embeddings cannot be read, if a split has no images, or if an output cannot be written.
    """
    outputs.require_usable()
    first, second = between
    if first == second:
        raise SettingsError(f"--between names the split {first} twice: name two splits, or use nnclr duplicates.")
    with reading.opened(path) as embeddings:
        table, model, source = embeddings.images(), embeddings.description.model, embeddings.description.source
        rows, others = _rows_of(table, first, path), _rows_of(table, second, path)
        with neighbours.unit_matrix(embeddings) as matrix:
            matches, leaked = neighbours.resembling(matrix, rows, others, threshold)
    found = groups.of_matches(table, matches)
    counts = {first: len(matches.rows), second: leaked}
    outputs.write(
        _copies(found, "a copy of"),
        Page(
            title=f"Images of {first} that occur in {second}",
            sentences=(
                f"{counts[first]:,} of the {len(rows):,} images of {first} resemble an image of {second}, and "
                f"{counts[second]:,} of the {len(others):,} images of {second} resemble one of {first}, with a cosine "
                f"similarity of at least {threshold:g} by {model.title}.",
                _BORDERLINE if found else _NOTHING,
            ),
            groups=found,
            role="kept",
            classes_should_agree=True,
        ),
    )
    return Leaks(
        path=path,
        model=model,
        source=source,
        threshold=threshold,
        images={first: len(rows), second: len(others)},
        leaked=counts,
        groups=tuple(found),
    )


def outliers(path: str, neighbour_count: int, count: int, outputs: Outputs) -> Outliers:
    """Finds the images that are farthest from their nearest neighbours, and lists them.

    Args:
        path: Path or URI of the embeddings.
        neighbour_count: Number of nearest neighbours of which the mean cosine distance is the score.
        count: Number of images to find.
        outputs: The files to write.

    Raises:
        SettingsError: If the embeddings cannot be read or are too few, or if an output cannot be written.
    """
    outputs.require_usable()
    with reading.opened(path) as embeddings:
        table, model, source = embeddings.images(), embeddings.description.model, embeddings.description.source
        if len(table) <= neighbour_count:
            raise SettingsError(f"{path} has {len(table):,} images: choose fewer neighbours than images with -k.")
        with neighbours.unit_matrix(embeddings) as matrix:
            distances = neighbours.mean_distances(matrix, neighbour_count)
            rows = np.argsort(-distances, kind="stable")[:count]
            # A page shows no more, and of more outliers the similarities would take much memory.
            shown = rows[: page.MOST_GROUPS]
            near = neighbours.nearest(matrix[shown], embeddings.vectors(unit=True), min(_SHOWN, neighbour_count), shown)
    beside = [groups.similar(table, *row) for row in zip(near.rows, near.similarities, strict=True)]
    beside += [()] * (len(rows) - len(beside))
    found = tuple(
        Outlier(image=image, similar=similar, distance=float(distances[row]))
        for image, similar, row in zip(groups.images(table, rows), beside, rows, strict=True)
    )
    median = float(np.median(distances))
    outputs.write(
        (Rejected(each.image.split, each.image.id, f"an outlier ({each.distance:.3f})") for each in found),
        Page(
            title=f"The {len(found):,} images that resemble the others least",
            sentences=(
                f"Of the {len(table):,} images of {path}, these have the largest mean cosine distance to their "
                f"{neighbour_count} nearest neighbours by {model.title}. The median of all images is {median:.3f}.",
                "Beside each are the images that resemble it most.",
            ),
            groups=found,
            role="distance",
            notes=[f"{each.distance:.3f}" for each in found],
        ),
    )
    return Outliers(
        path=path,
        model=model,
        source=source,
        neighbours=neighbour_count,
        images=len(table),
        median=median,
        outliers=found,
    )


def _copies(found: Sequence[Group], what: str) -> Iterable[Rejected]:
    return (
        Rejected(copy.split, copy.id, f"{what} {group.image.id} (similarity {copy.similarity:.4f})")
        for group in found
        for copy in group.similar
    )


def _rows(table: pa.Table, split: str) -> np.ndarray:
    return np.flatnonzero(np.asarray(table["split"]) == split)


def _rows_of(table: pa.Table, split: str, path: str) -> np.ndarray:
    rows = _rows(table, split)
    if not len(rows):
        known = ", ".join(sorted(set(table["split"].to_pylist())))
        raise SettingsError(f"{path} has no images of a split {split}: its splits are {known}.")
    return rows
