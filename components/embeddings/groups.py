"""Images beside those that resemble them: what searches and comparisons of embeddings find."""

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
    found = table.take(pa.array(list(rows), pa.int64())).to_pylist()
    return [Image(id=row["id"], split=row["split"], class_name=row["class"], path=row["path"]) for row in found]


def similar(table: pa.Table, rows: np.ndarray, similarities: np.ndarray) -> tuple[Similar, ...]:
    """Returns the images in some rows of the table of `Embeddings.images`, with their similarities."""
    return tuple(
        Similar(**image.model_dump(), similarity=similarity)
        # Rounding may lead to more than 1.
        for image, similarity in zip(images(table, rows.tolist()), np.minimum(similarities, 1).tolist(), strict=True)
    )


def of_matches(table: pa.Table, matches: Matches) -> list[Group]:
    """Groups images by the other image that they resemble.

    Args:
        table: What is known of the images, see `Embeddings.images`.
        matches: Images, and the other image that each resembles.

    Returns:
        A group for each of the other images. The group with the least similar image comes first, because it shows
        whether the threshold is too low.
    """
    order = np.lexsort([matches.rows, -matches.similarities, matches.others])
    others, firsts = np.unique(matches.others[order], return_index=True)
    parts = np.split(order, firsts[1:])
    found = [
        Group(image=image, similar=similar(table, matches.rows[part], matches.similarities[part]))
        for image, part in zip(images(table, others.tolist()), parts, strict=False)
    ]
    # Sorting keeps the order of the file among equals.
    return sorted(found, key=lambda group: group.least_similarity)
