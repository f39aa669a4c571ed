"""Measures of embeddings that need views of the same images and no labels, in NumPy."""

from collections.abc import Iterator

import numpy as np

# The regularisation of the scatter within images, as a share of the mean variance of an embedding's numbers. The paper
# gives no value, and an absolute one would treat encoders with small embeddings differently.
_LIDAR_REGULARISATION = 1e-4
# Encoders compute in float32: relative differences below this one are rounding, and so are its squares in similarities.
_ROUNDING = 1e-6
_BATCH = 512


def alignment(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the mean squared distance between two views of an image on the unit sphere (arXiv 2005.10242).

    It is 0 if an image's views have the same embedding, 2 if they are unrelated, and at most 4; lower is better.

    Args:
        first: Embeddings of the first views, [N, d]; they are L2-normalised here.
        second: Embeddings of the second views of the same images, [N, d].
    """
    return float(np.mean(np.sum((_normalised(first) - _normalised(second)) ** 2, axis=1)))


def uniformity(embeddings: np.ndarray) -> float:
    """Returns how evenly embeddings fill the unit sphere (arXiv 2005.10242).

    It is the logarithm of the mean of exp(-2 * squared distance) over all pairs of different images: 0 if all
    embeddings are the same, near -4 if they are spread evenly over many dimensions; lower is better.

    Args:
        embeddings: One embedding of each of at least two images, [N, d]; they are L2-normalised here.
    """
    points = _normalised(embeddings)
    squares = np.sum(points**2, axis=1)
    total = 0.0
    for rows in _batches(points):
        distances = squares[rows, np.newaxis] + squares - 2 * points[rows] @ points.T
        total += float(np.exp(-2 * np.maximum(distances, 0)).sum())
    count = len(points)
    # Each image's pair with itself contributed 1.
    return float(np.log((total - count) / (count * (count - 1))))


def lidar(views: np.ndarray) -> float:
    """Returns LiDAR, the effective rank of the matrix of linear discriminant analysis (arXiv 2312.04000, section 4).

    Each image is a class, and its views are the members of the class. The scatter of the classes' means is whitened
    by the scatter within classes; the exponential of the entropy of its normalised eigenvalues counts the directions
    in which images differ by more than their views do. Directions that carry nothing but the views' differences still
    count a little, the less the more views there are, so that only figures from the same numbers of images and views
    can be compared.

    Args:
        views: Embeddings of at least two views of each of at least two images, [N, views, d].

    Returns:
        A value from 1 to min(N - 1, d); 0 if all embeddings are the same.
    """
    deviations = views.astype(np.float64)
    power = np.mean(deviations**2)
    means = deviations.mean(axis=1)
    deviations -= means[:, np.newaxis]
    between = _covariance(means - means.mean(axis=0))
    within = _covariance(deviations.reshape(-1, views.shape[2]))
    spread = (np.trace(between) + np.trace(within)) / len(within)
    if spread <= _ROUNDING**2 * power:
        return 0.0
    variances, directions = np.linalg.eigh(within + _LIDAR_REGULARISATION * spread * np.eye(len(within)))
    whiten = directions / np.sqrt(variances)
    eigenvalues = np.linalg.eigvalsh(whiten.T @ between @ whiten)
    eigenvalues = eigenvalues[eigenvalues > 0]
    share = eigenvalues / eigenvalues.sum()
    return float(np.exp(-np.sum(share * np.log(share)))) if len(share) else 0.0


def consistent_neighbours(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns for each image whether the nearest second view of its first view is its own one, bool [N].

    Nearness is cosine similarity. An image whose own view is only as near as that of another image does not count, so
    that no image counts if all embeddings are the same.

    Args:
        first: Embeddings of the first views, [N, d].
        second: Embeddings of the second views of the same images, [N, d].
    """
    queries, points = _normalised(first), _normalised(second)
    found = []
    for rows in _batches(queries):
        similarity = queries[rows] @ points.T
        numbers = np.arange(len(similarity))
        own = similarity[numbers, numbers + rows.start].copy()
        similarity[numbers, numbers + rows.start] = -np.inf
        found.append(own > similarity.max(axis=1) + _ROUNDING**2)
    return np.concatenate(found)


def _normalised(embeddings: np.ndarray) -> np.ndarray:
    """Returns L2-normalised embeddings, float64 [N, d]; an embedding of zeros stays as it is."""
    embeddings = embeddings.astype(np.float64)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.divide(embeddings, lengths, out=embeddings, where=lengths > 0)


def _covariance(centred: np.ndarray) -> np.ndarray:
    return centred.T @ centred / len(centred)


def _batches(rows: np.ndarray) -> Iterator[slice]:
    return (slice(first, first + _BATCH) for first in range(0, len(rows), _BATCH))
