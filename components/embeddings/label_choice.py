"""Chooses the images to label next.

With few labels, an image that stands for many others teaches a classifier more than one that it is unsure of; with many
labels, it is the other way round (arXiv 2202.02794). Typical images are therefore chosen first, and later the images of
whose class a probe is least sure.
"""

import warnings

import numpy as np
from scipy.special import softmax
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from components.linear_probe_evaluator import probes
from components.linear_probe_evaluator.probes import Labelled
from trainer import splits

#: The labels for each class from which on the probe's margin decides: see docs/embeddings.md.
ENOUGH_LABELS = 40

# Clusters of embeddings with fewer dimensions are found faster, and stand for the classes at least as well.
_DIMENSIONS = 96
_NEIGHBOURS = 20
# A smaller cluster holds images that resemble few others. It comes last.
_SMALL_CLUSTER = 5
# Distances of images to centres for each round of k-means, above which a round takes some of the images only.
_MOST_DISTANCES = 10_000_000
_BATCH = 4_096


def choose(vectors: np.ndarray, labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, str]:
    """Chooses images to label: typical ones as long as there are few labels, else those with the least margin.

    Args:
        vectors: The embeddings of the images, float32 [N, d].
        labels: The known classes, counted from 0, or `splits.NO_LABEL`: int64 [N].
        count: The number of images to choose; at least so many have no label.
        seed: The seed of the clusters and of the probe.

    Returns:
        The rows of the chosen images, the most useful first, and the name of the rule: `typicality` or `margin`.
    """
    known = labels[labels != splits.NO_LABEL]
    classes = len(np.unique(known))
    if classes > 1 and len(known) >= ENOUGH_LABELS * classes:
        return least_certain(vectors, labels, count, seed), "margin"
    return most_typical(vectors, labels != splits.NO_LABEL, count, seed), "typicality"


def most_typical(vectors: np.ndarray, labelled: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Chooses typical and diverse images: TypiClust of arXiv 2202.02794.

    The images are divided into as many clusters as there will be labels. The largest clusters without a label come
    first, and each gives the image whose nearest neighbours within the cluster are the nearest on average.

    Args:
        vectors: The embeddings, float32 [N, d]. Only their directions count.
        labelled: Whether each image has a label, bool [N].
        count: The number of images to choose.
        seed: The seed of the clusters.

    Returns:
        The rows of the chosen images, int64 [count], in the order of the choice.
    """
    directions = _directions(vectors, seed)
    clusters = _clusters(directions, int(labelled.sum()) + count, seed)
    members = [np.flatnonzero(clusters == number) for number in range(clusters.max() + 1)]
    sizes = np.array([len(rows) for rows in members])
    covered = np.array([labelled[rows].sum() for rows in members])
    waiting: dict[int, list[int]] = {}
    free = sizes - covered
    chosen = []
    for _ in range(count):
        # Each cluster gives a second image only when all others have a label.
        order = np.lexsort((-sizes, covered, sizes < _SMALL_CLUSTER, free == 0))
        best = int(order[0])
        if best not in waiting:
            rows = members[best]
            ordered = rows[np.argsort(_mean_distances(directions[rows]), kind="stable")]
            waiting[best] = [int(row) for row in ordered if not labelled[row]][::-1]
        chosen.append(waiting[best].pop())
        covered[best] += 1
        free[best] -= 1
    return np.array(chosen, np.int64)


def least_certain(vectors: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Chooses the images for which the two most probable classes of a probe differ the least in probability.

    Args:
        vectors: The embeddings, float32 [N, d].
        labels: The known classes, counted from 0, or `splits.NO_LABEL`: int64 [N]; of at least two classes.
        count: The number of images to choose.
        seed: The seed of the probe's cross-validation.

    Returns:
        The rows of the chosen images, int64 [count], the least certain first.
    """
    known = np.flatnonzero(labels != splits.NO_LABEL)
    probe = probes.fit(Labelled(vectors[known], labels[known]), int(labels.max()) + 1, seed)
    free = np.flatnonzero(labels == splits.NO_LABEL)
    margins = np.empty(len(free), np.float32)
    for first in range(0, len(free), _BATCH):
        rows = free[first : first + _BATCH]
        best = np.sort(softmax(vectors[rows] @ probe.weights + probe.bias, axis=1), axis=1)[:, -2:]
        margins[first : first + len(rows)] = best[:, 1] - best[:, 0]
    return free[np.argsort(margins, kind="stable")[:count]]


def _directions(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Returns the embeddings, divided by their lengths, in their leading directions: float32 [N, k]."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.where(lengths == 0, 1, lengths)
    if min(directions.shape) <= _DIMENSIONS:
        return directions
    with threadpool_limits(1):
        return TruncatedSVD(_DIMENSIONS, random_state=seed).fit_transform(directions)


def _clusters(directions: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns the number of each image's cluster, int64 [N]."""
    kind = KMeans if len(directions) * count <= _MOST_DISTANCES else MiniBatchKMeans
    # Several threads would add numbers in any order, so that the clusters would not be the same each time.
    with threadpool_limits(1), warnings.catch_warnings():
        # Copies of one image make fewer clusters, which does no harm.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kind(min(count, len(directions)), n_init=1, random_state=seed).fit_predict(directions)


def _mean_distances(directions: np.ndarray) -> np.ndarray:
    """Returns the mean distance of each image to its nearest neighbours, [N]."""
    neighbours = min(_NEIGHBOURS, len(directions) - 1)
    if not neighbours:
        return np.zeros(len(directions))
    # Without arguments, an image is not its own neighbour.
    distances, _ = NearestNeighbors(n_neighbors=neighbours).fit(directions).kneighbors()
    return distances.mean(1)
