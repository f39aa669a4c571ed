"""Measures of the quality of embeddings, in NumPy."""

import numpy as np
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

# Temperature of the weighted kNN classifier (arXiv 1805.01978, section 3.4).
_KNN_TEMPERATURE = 0.07


def knn_accuracy(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, neighbours: int
) -> float:
    """Returns the accuracy of a kNN classifier on cosine similarity (arXiv 1805.01978, section 3.4).

    Votes are weighted by exp(similarity / 0.07).

    Args:
        train: Features that vote, [N, d].
        train_labels: Classes of the features that vote, [N].
        test: Features to classify, [M, d].
        test_labels: Classes of the features to classify, [M].
        neighbours: Number of votes on each feature, at most N.
    """
    model = KNeighborsClassifier(
        min(neighbours, len(train_labels)),
        metric="cosine",
        weights=lambda distances: np.exp(-distances / _KNN_TEMPERATURE),
    )
    return float(model.fit(train, train_labels).score(test, test_labels))


def neighbour_label_share(projections: np.ndarray, labels: np.ndarray) -> float:
    """Returns how often the nearest other projection, by cosine similarity, has the same label.

    NNCLR takes nearest neighbours for positives, and this is how often that is right.

    Args:
        projections: At least two projections, [N, d].
        labels: Classes of the projections, [N].
    """
    nearest = NearestNeighbors(n_neighbors=1, metric="cosine").fit(projections).kneighbors(return_distance=False)
    return float(np.mean(labels[nearest[:, 0]] == labels))


def rank_me(embeddings: np.ndarray) -> float:
    """Returns RankMe, the effective rank of embeddings [N, d] (arXiv 2210.02885).

    It is the exponential of the entropy of the normalised singular values: from 1, if all embeddings lie on one line,
    to min(N, d), if they fill all directions evenly; 0 if all embeddings are zero.
    """
    singular = np.linalg.svd(embeddings.astype(np.float64), compute_uv=False)
    if singular.sum() == 0:
        return 0.0
    share = singular / singular.sum() + 1e-7
    return float(np.exp(-np.sum(share * np.log(share))))
