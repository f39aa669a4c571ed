"""Measures of a representation, on embeddings in NumPy."""

import numpy as np
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

# Of the similarity-weighted kNN classifier of Wu et al. 2018 (arXiv 1805.01978).
_KNN_TEMPERATURE = 0.07


def knn_accuracy(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, neighbours: int
) -> float:
    """kNN on cosine similarity, votes weighted by exp(similarity / 0.07) (arXiv 1805.01978, section 3.4).

    Args:
        train: features to vote, [N, d].
        train_labels: their classes, [N].
        test: features to classify, [M, d].
        test_labels: their classes, [M].
        neighbours: that vote on each, at most; fewer where `train` has fewer.
    """
    model = KNeighborsClassifier(
        min(neighbours, len(train_labels)),
        metric="cosine",
        weights=lambda distances: np.exp(-distances / _KNN_TEMPERATURE),
    )
    return float(model.fit(train, train_labels).score(test, test_labels))


def neighbour_label_share(projections: np.ndarray, labels: np.ndarray) -> float:
    """How often the nearest other projection, by cosine, has the same label: [N, d] and [N], N at least 2.

    The neighbours of NNCLR are positives: this is how often they are of the right class.
    """
    found = NearestNeighbors(n_neighbors=1, metric="cosine").fit(projections).kneighbors(return_distance=False)
    return float(np.mean(labels[found[:, 0]] == labels))


def rank_me(embeddings: np.ndarray) -> float:
    """Effective rank of embeddings [N, d]: exp of the entropy of their normalised singular values (arXiv 2210.02885).

    From 1, where all lie on one line, to min(N, d), where they fill all directions evenly; 0 if all are zero.
    """
    singular = np.linalg.svd(embeddings.astype(np.float64), compute_uv=False)
    if singular.sum() == 0:
        return 0.0
    share = singular / singular.sum() + 1e-7
    return float(np.exp(-np.sum(share * np.log(share))))
