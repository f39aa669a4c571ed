"""Images beside those that resemble them: what searches and comparisons of embeddings find."""

import itertools
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from components.artifact_files import Content
from components.embeddings.neighbours import Matches


class Image(Content):
    """An image of a file of embeddings.

    Attributes:
        id: Its id.
        split: Its split.
        class_name: The name of its class; None if it is unknown.
        path: The path or URI of its file; None if it is no file of its own.
    """

    id: str
    split: str
    class_name: str | None
    path: str | None


class Similar(Image):
    """An image that resembles another one.

    Attributes:
        similarity: The cosine similarity of both, up to 1.
    """

    similarity: float


class Group(Content):
    """An image, and images that resemble it.

    Attributes:
        image: The image.
        similar: The others, the most similar first.
    """

    image: Image
    similar: tuple[Similar, ...]

    @property
    def classes(self) -> set[str]:
        """The known classes of all images."""
        return {image.class_name for image in (self.image, *self.similar) if image.class_name is not None}

    @property
    def least_similarity(self) -> float:
        """The similarity of the least similar image."""
        return self.similar[-1].similarity


def images(table: pa.Table, rows: Iterable[int]) -> list[Image]:
    """Returns the images in some rows of the table of `Embeddings.images`."""
    return [Image(**known) for known in _known(table, rows)]


def similar(table: pa.Table, rows: np.ndarray, similarities: np.ndarray) -> tuple[Similar, ...]:
    """Returns the images in some rows of the table of `Embeddings.images`, with their similarities."""
    # Rounding may lead to more than 1.
    values = np.minimum(similarities, 1).tolist()
    known = _known(table, rows.tolist())
    return tuple(Similar(**each, similarity=value) for each, value in zip(known, values, strict=True))


def _known(table: pa.Table, rows: Iterable[int]) -> list[dict[str, str | None]]:
    found = table.select(["id", "split", "class", "path"]).rename_columns(["id", "split", "class_name", "path"])
    return found.take(pa.array(list(rows), pa.int64())).to_pylist()


def of_matches(table: pa.Table, matches: Matches) -> list[Group]:
    """Groups images by the other image that they resemble.

    Args:
        table: What is known of the images, see `Embeddings.images`.
        matches: Images, and the other image that each resembles.

    Returns:
        A group for each of the other images. The group with the least similar image comes first, because it shows
        whether the threshold is too low.
    """
    order = np.lexsort((matches.rows, -matches.similarities, matches.others))
    others, firsts = np.unique(matches.others[order], return_index=True)
    resembling = similar(table, matches.rows[order], matches.similarities[order])
    bounds = itertools.pairwise([*firsts.tolist(), len(order)])
    found = [
        Group(image=image, similar=resembling[first:end])
        for image, (first, end) in zip(images(table, others.tolist()), bounds, strict=True)
    ]
    # Sorting keeps the order of the file among equals.
    return sorted(found, key=lambda group: group.least_similarity)
