"""Fits probes on subsets of the labels: STL-10's folds, and random shares of the labels."""

import numpy as np

from components.linear_probe_evaluator import probes
from components.linear_probe_evaluator.artifact import Repeated
from components.linear_probe_evaluator.probes import Labelled

# The number of random subsets per share of the labels, because the accuracies of small subsets vary widely.
DRAWS = 5


def official_folds(folds: np.ndarray) -> list[np.ndarray]:
    """Returns the row numbers of each of STL-10's predefined folds (Coates et al. 2011).

    Args:
        folds: Whether each image belongs to each fold, bool [N, folds].

    Returns:
        The row numbers of each fold; an empty list if no image belongs to a fold.
    """
    return [np.flatnonzero(column) for column in folds.T if column.any()]


def draws(labels: np.ndarray, share: float, seed: int) -> list[np.ndarray]:
    """Draws `DRAWS` random subsets with the same share of each class.

    Args:
        labels: The class of each image, int64 [N].
        share: The share of each class to draw; at least one image of each class is drawn.
        seed: The seed of the draws.

    Returns:
        The sorted row numbers of each subset.
    """
    rng = np.random.default_rng(seed)
    rows_of = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return [
        np.sort(np.concatenate([rng.choice(rows, max(1, round(share * len(rows))), False) for rows in rows_of]))
        for _ in range(DRAWS)
    ]


def hits(train: Labelled, test: Labelled, subsets: list[np.ndarray], classes: int, seed: int) -> np.ndarray:
    """Fits a probe on each subset of `train`, and classifies all of `test` with each probe.

    The regularisation is selected by cross-validation within the first subset and used for all of them.

    Args:
        train: The features and labels of the train split.
        test: The features and labels of the test split.
        subsets: The row numbers of each subset of `train`.
        classes: The number of classes.
        seed: The seed of the cross-validation.

    Returns:
        Whether each probe is right on each test image, bool [subsets, N].
    """
    strength = probes.fit(train[subsets[0]], classes, seed).strength
    fitted = [probes.fit(train[rows], classes, seed, strength) for rows in subsets]
    return np.stack([probe.predict(test.features) == test.labels for probe in fitted])


def repeated(train: Labelled, test: Labelled, subsets: list[np.ndarray], classes: int, seed: int) -> Repeated:
    """Measures the accuracy of a probe on each subset of `train`; for the arguments see `hits`."""
    accuracies = hits(train, test, subsets, classes, seed).mean(1)
    deviation = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else 0.0
    images = round(np.mean([len(rows) for rows in subsets]))
    return Repeated(mean=float(np.mean(accuracies)), deviation=deviation, runs=len(accuracies), images=images)
