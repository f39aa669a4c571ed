"""Which labels a probe is fitted with, where it is not all of them."""

import numpy as np

from components.linear_probe_evaluator import probes
from components.linear_probe_evaluator.artifact import Repeated
from components.linear_probe_evaluator.probes import Labelled

# How often a share of the labels is drawn: a single draw of 1 % tells little.
DRAWS = 5


def official_folds(folds: np.ndarray) -> list[np.ndarray]:
    """STL-10's predefined folds (Coates et al. 2011): the row numbers of each; empty where images carry none.

    Args:
        folds: bool [N, folds], which image belongs to which.
    """
    return [np.flatnonzero(column) for column in folds.T if column.any()]


def draws(labels: np.ndarray, share: float, seed: int) -> list[np.ndarray]:
    """Draws `share` of the rows several times, evenly over the classes, and at least one row of each class."""
    rng = np.random.default_rng(seed)
    rows_of = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return [
        np.sort(np.concatenate([rng.choice(rows, max(1, round(share * len(rows))), False) for rows in rows_of]))
        for _ in range(DRAWS)
    ]


def repeated(train: Labelled, test: Labelled, subsets: list[np.ndarray], classes: int, seed: int) -> Repeated:
    """Fits a probe on each subset of `train` and scores each on all of `test`.

    The regularisation is chosen by cross-validation inside the first subset, and taken for the others.
    """
    strength = probes.fit(train[subsets[0]], classes, seed).strength
    accuracies = []
    for rows in subsets:
        probe = probes.fit(train[rows], classes, seed, strength)
        accuracies.append(float((probe.predict(test.features) == test.labels).mean()))
    deviation = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else 0.0
    images = round(np.mean([len(rows) for rows in subsets]))
    return Repeated(mean=float(np.mean(accuracies)), deviation=deviation, runs=len(accuracies), images=images)
