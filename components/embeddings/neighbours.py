"""Compares embeddings by cosine similarity: exactly, and in blocks, so that memory does not grow with their number."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from components.embeddings.reading import Embeddings
from trainer.progress import Reporter

# The similarities of so many embeddings to so many others take 64 MiB.
_BLOCK = 4_096
# Similarities are equal if they are so in so many decimals, because of errors of rounding.
_DECIMALS = 6
_NONE = -2.0


class Nearest(NamedTuple):
    """The nearest neighbours of some embeddings, the most similar first.

    Attributes:
        rows: Their row numbers in the file, int64 [n, k].
        similarities: Their cosine similarities, float32 [n, k].
    """

    rows: np.ndarray
    similarities: np.ndarray


class Matches(NamedTuple):
    """Images that another image resembles, in the order in which they were compared.

    Attributes:
        rows: Their row numbers, int64 [n].
        others: The row number of the other image of each, int64 [n].
        similarities: The cosine similarity of both, float32 [n].
    """

    rows: np.ndarray
    others: np.ndarray
    similarities: np.ndarray


@contextmanager
def unit_matrix(embeddings: Embeddings) -> Iterator[np.ndarray]:
    """Yields all embeddings of a file, divided by their lengths, float32 [count, length].

    They are in a temporary file that is mapped into memory: decoding Parquet for each block of a comparison of all with
    all would take longer than the comparison.
    """
    with tempfile.TemporaryFile(prefix="nnclr-embeddings-") as file:
        for chunk in embeddings.vectors(unit=True):
            file.write(chunk.tobytes())
        file.flush()
        yield np.memmap(file, np.float32, "r", shape=(embeddings.description.count, embeddings.description.length))


def nearest(queries: np.ndarray, chunks: Iterable[np.ndarray], k: int, own: np.ndarray | None = None) -> Nearest:
    """Finds the nearest neighbours of each query.

    Args:
        queries: Embeddings of length 1, float32 [n, d].
        chunks: The embeddings to search, of length 1, float32 [m, d] each.
        k: The number of neighbours; fewer are returned if there are fewer embeddings.
        own: The row number of each query among the embeddings, which is not its own neighbour: int64 [n].

    Returns:
        The neighbours. Of equally similar ones, the first of the file comes first.
    """
    best = np.full([len(queries), k], _NONE, np.float32)
    rows = np.zeros([len(queries), k], np.int64)
    first = 0
    for chunk in chunks:
        similarities = queries @ chunk.T
        if own is not None:
            here = np.flatnonzero((own >= first) & (own < first + len(chunk)))
            similarities[here, own[here] - first] = _NONE
        # Only few queries have new neighbours in a late chunk.
        changed = np.flatnonzero((similarities > best.min(axis=1, keepdims=True)).any(axis=1))
        numbers = np.broadcast_to(np.arange(first, first + len(chunk)), [len(changed), len(chunk)])
        candidates = np.concatenate([best[changed], similarities[changed]], axis=1)
        kept = np.argpartition(-candidates, k - 1, axis=1)[:, :k]
        best[changed] = np.take_along_axis(candidates, kept, axis=1)
        rows[changed] = np.take_along_axis(np.concatenate([rows[changed], numbers], axis=1), kept, axis=1)
        first += len(chunk)
    order = np.lexsort((rows, -best.round(_DECIMALS)), axis=1)[:, : first - (own is not None)]
    return Nearest(np.take_along_axis(rows, order, axis=1), np.take_along_axis(best, order, axis=1))


def mean_distances(matrix: np.ndarray, k: int) -> np.ndarray:
    """Computes how far each embedding is from its nearest neighbours.

    Args:
        matrix: All embeddings, of length 1, float32 [n, d].
        k: The number of neighbours, less than `n`.

    Returns:
        The mean cosine distance to the `k` nearest neighbours, float32 [n].
    """
    reporter, means = Reporter("Comparing", len(matrix)), []
    for first in range(0, len(matrix), _BLOCK):
        block = matrix[first : first + _BLOCK]
        best = np.full([len(block), k], _NONE, np.float32)
        for start in range(0, len(matrix), _BLOCK):
            similarities = block @ matrix[start : start + _BLOCK].T
            if start == first:
                np.fill_diagonal(similarities, _NONE)
            # `nearest` would take several times as long, because it also keeps the row numbers.
            best = np.partition(np.concatenate([best, similarities], axis=1), -k, axis=1)[:, -k:]
        means.append(1 - np.minimum(best.mean(axis=1), 1))
        reporter.advance(len(block))
    return np.concatenate(means)


def duplicates(matrix: np.ndarray, order: np.ndarray, threshold: float) -> Matches:
    """Finds images that resemble an earlier one that is kept.

    An image is kept if it resembles none of those that were kept before it. Unlike groups that are connected by chains
    of similar images, each image that is not kept resembles one that is.

    Args:
        matrix: All embeddings, of length 1, float32 [n, d].
        order: The row numbers in the order in which images are kept, int64 [n].
        threshold: The least cosine similarity of images that resemble each other, up to 1e-6.

    Returns:
        The images that are not kept, and for each the most similar image that is kept.
    """
    reporter, threshold = Reporter("Comparing", len(order)), threshold - 10**-_DECIMALS
    kept, found = np.empty(0, np.int64), list[Matches]()
    for rows in _blocks(order):
        block = matrix[rows]
        best, others = _most_similar(block, matrix, kept)
        # Among the images of a block, each is compared with the kept ones before it.
        among = np.triu(block @ block.T, 1)
        is_kept = best < threshold
        for column in np.flatnonzero((among >= threshold).any(axis=0)):
            earlier = np.where(is_kept[:column], among[:column, column], _NONE)
            nearest_row = earlier.argmax()
            if earlier[nearest_row] >= threshold:
                is_kept[column] = False
                if earlier[nearest_row] > best[column]:
                    best[column], others[column] = earlier[nearest_row], rows[nearest_row]
        kept = np.concatenate([kept, rows[is_kept]])
        found.append(Matches(rows[~is_kept], others[~is_kept], best[~is_kept]))
        reporter.advance(len(rows))
    return _joined(found)


def resembling(matrix: np.ndarray, rows: np.ndarray, others: np.ndarray, threshold: float) -> tuple[Matches, int]:
    """Finds images of one set that resemble an image of another set.

    Args:
        matrix: All embeddings, of length 1, float32 [n, d].
        rows: The row numbers of the one set, int64 [m].
        others: The row numbers of the other set, int64 [l].
        threshold: The least cosine similarity of images that resemble each other, up to 1e-6.

    Returns:
        The images of the one set, each with the most similar image of the other one; and the number of images of the
        other set that resemble an image of the one.
    """
    reporter, threshold = Reporter("Comparing", len(rows)), threshold - 10**-_DECIMALS
    resembled, found = np.zeros(len(others), bool), list[Matches]()
    for some in _blocks(rows):
        best, most_similar = _most_similar(matrix[some], matrix, others, resembled, threshold)
        chosen = best >= threshold
        found.append(Matches(some[chosen], most_similar[chosen], best[chosen]))
        reporter.advance(len(some))
    return _joined(found), int(resembled.sum())


def _most_similar(
    block: np.ndarray,
    matrix: np.ndarray,
    others: np.ndarray,
    resembled: np.ndarray | None = None,
    threshold: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the highest similarity of each embedding of a block to one of `others`, and the row number of that one.

    Where one of `others` is similar to an embedding of the block, `resembled` becomes true.
    """
    best = np.full(len(block), _NONE, np.float32)
    rows = np.zeros(len(block), np.int64)
    for first in range(0, len(others), _BLOCK):
        some = others[first : first + _BLOCK]
        similarities = block @ matrix[some].T
        if resembled is not None:
            resembled[first : first + _BLOCK] |= similarities.max(axis=0) >= threshold
        nearest_column = similarities.argmax(axis=1)
        highest = similarities[np.arange(len(block)), nearest_column]
        nearer = highest > best
        best[nearer], rows[nearer] = highest[nearer], some[nearest_column[nearer]]
    return best, rows


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[first : first + _BLOCK] for first in range(0, len(rows), _BLOCK))


def _joined(found: list[Matches]) -> Matches:
    return Matches(*(np.concatenate(column) for column in zip(*found, strict=True)))
