"""Fits and scores the linear probe: a linear classifier on frozen features, which measures a representation."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, recall_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from components.linear_probe_evaluator.artifact import Difference

# Inverse regularisation strengths, a decade apart.
_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
# scikit-learn's default, used if a class has too few images for cross-validation.
_DEFAULT_STRENGTH = 1.0
_CROSS_VALIDATION_FOLDS = 3
_RESAMPLES = 2_000
_BATCH = 4_096


@dataclass(frozen=True)
class Labelled:
    """Features and labels of one split.

    Attributes:
        features: The features, float32 [N, d]; they may be a memory map of a file.
        labels: The classes, int64 [N].
    """

    features: np.ndarray
    labels: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "Labelled":
        return Labelled(self.features[rows], self.labels[rows])


@dataclass(frozen=True)
class LinearProbe:
    """A fitted linear classifier.

    Attributes:
        weights: The weights for features that are not standardised, float32 [d, classes].
        bias: The bias, float32 [classes]; minus infinity for a class without training images.
        strength: The inverse regularisation strength that the classifier was fitted with.
    """

    weights: np.ndarray
    bias: np.ndarray
    strength: float

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predicts the classes, int64 [N], of features, float32 [N, d]."""
        return np.concatenate([np.argmax(features[rows] @ self.weights + self.bias, -1) for rows in _batches(features)])


@dataclass(frozen=True)
class Score:
    """The results of a probe on a test split.

    Attributes:
        accuracy: The share of correctly classified images.
        interval: The 95 % bootstrap interval of the accuracy over images.
        recall: The recall of each class, in the order of the classes.
        hits: 1.0 for a correctly classified image and 0.0 for any other, float64 [N].
        predicted: The predicted classes, int64 [N].
    """

    accuracy: float
    interval: tuple[float, float]
    recall: list[float]
    hits: np.ndarray
    predicted: np.ndarray


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts images by true class (rows) and predicted class (columns): int64 [classes, classes].

    Args:
        labels: The true classes, int64 [N].
        predicted: The predicted classes, int64 [N].
        classes: The number of classes.
    """
    return confusion_matrix(labels, predicted, labels=range(classes))


def fit(train: Labelled, classes: int, seed: int, strength: float | None = None) -> LinearProbe:
    """Fits a multinomial logistic regression on standardised features (the protocol of arXiv 1603.08511).

    The standardised features are stored in a temporary file, so that memory does not grow with the number of images.

    Args:
        train: The features and labels to fit on.
        classes: The number of classes; `train` may lack some.
        seed: The seed that divides `train` into folds for cross-validation.
        strength: The inverse regularisation strength; None selects it by cross-validation within `train`.
    """
    weights = np.zeros([train.features.shape[1], classes], np.float32)
    bias = np.full([classes], -np.inf, np.float32)
    present = np.unique(train.labels)
    if len(present) == 1:
        bias[present] = 0
        return LinearProbe(weights, bias, strength or _DEFAULT_STRENGTH)
    scaler = StandardScaler()
    for rows in _batches(train.features):
        scaler.partial_fit(train.features[rows])
    # Each step of the fit is so small that several threads would wait for each other longer than they compute.
    with tempfile.TemporaryFile() as file, threadpool_limits(1, user_api="blas"):
        standardised = np.memmap(file, np.float32, "w+", shape=train.features.shape)
        for rows in _batches(train.features):
            standardised[rows] = scaler.transform(train.features[rows])
        if strength is None:
            strength = _best_strength(standardised, train.labels, seed)
        model = _regression(strength).fit(standardised, train.labels)
        del standardised
    columns, offsets = model.coef_.T, model.intercept_
    if len(present) == 2:
        # For two classes scikit-learn stores only the second class's column; the first class's column is zero.
        columns, offsets = columns * [[0, 1]], offsets * [0, 1]
    weights[:, present] = columns / scaler.scale_[:, np.newaxis]
    bias[present] = offsets - scaler.mean_ @ weights[:, present]
    return LinearProbe(weights, bias, strength)


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=1_000, warm_start=True)


def _best_strength(features: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """Tries weaker and weaker regularisation until the accuracy falls, as the weakest takes the longest to fit."""
    if np.bincount(labels)[np.unique(labels)].min() < _CROSS_VALIDATION_FOLDS:
        return _DEFAULT_STRENGTH
    splitter = StratifiedKFold(_CROSS_VALIDATION_FOLDS, shuffle=True, random_state=seed)
    folds = [held_out for _, held_out in splitter.split(labels, labels)]
    models = [_regression(_STRENGTHS[0]) for _ in folds]
    best, most = _STRENGTHS[0], 0
    for strength in _STRENGTHS:
        hits = 0
        for model, held_out in zip(models, folds, strict=True):
            # Weights of 0 leave out the held-out rows; a copy of the other rows may not fit into memory.
            weights = np.ones(len(labels), np.float32)
            weights[held_out] = 0
            model.set_params(C=strength).fit(features, labels, sample_weight=weights)
            hits += sum(
                int((model.predict(features[held_out[rows]]) == labels[held_out[rows]]).sum())
                for rows in _batches(held_out)
            )
        if hits < most:
            break
        if hits > most:
            best, most = strength, hits
    return best


def score(probe: LinearProbe, test: Labelled, seed: int) -> Score:
    """Scores a probe on a test split. The recall of a class without test images is 0.

    Args:
        probe: A probe that was fitted on other images.
        test: The features and labels of the test split.
        seed: The seed of the bootstrap.
    """
    predicted = probe.predict(test.features)
    hits = (predicted == test.labels).astype(np.float64)
    recall = recall_score(test.labels, predicted, labels=range(len(probe.bias)), average=None, zero_division=0.0)
    return Score(float(hits.mean()), _interval(hits, seed), recall.tolist(), hits, predicted)


def difference(ours: Score, theirs: Score, seed: int) -> Difference:
    """Computes the accuracy of `ours` minus that of `theirs`, paired by image.

    An image that is hard for one encoder tends to be hard for the other, so the paired interval is narrower than the
    intervals of the two accuracies suggest.

    Args:
        ours: The score of one probe.
        theirs: The score of another probe on the same images.
        seed: The seed of the bootstrap.
    """
    gains = ours.hits - theirs.hits
    low, high = _interval(gains, seed)
    return Difference(mean=float(gains.mean()), low=low, high=high)


def _interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Computes the 95 % percentile bootstrap interval of the mean over images."""
    if values.min() == values.max():
        return float(values[0]), float(values[0])
    result = bootstrap(
        [values],
        np.mean,
        n_resamples=_RESAMPLES,
        method="percentile",
        batch=100,
        random_state=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _batches(rows: np.ndarray) -> Iterator[slice]:
    return (slice(first, first + _BATCH) for first in range(0, len(rows), _BATCH))
