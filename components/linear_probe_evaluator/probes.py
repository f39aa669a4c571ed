"""Fits and scores the linear probe: a linear classifier on frozen features, which measures a representation."""

import math
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, log_loss, recall_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from components.linear_probe_evaluator import significance

# Inverse regularisation strengths, a decade apart.
_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
# scikit-learn's default, used if a class has too few images for cross-validation.
_DEFAULT_STRENGTH = 1.0
_CROSS_VALIDATION_FOLDS = 3
#: The fit of a probe stops after so many iterations at the latest.
MOST_ITERATIONS = 1_000
_CALIBRATION_BINS = 15
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
        converged: Whether the fit reached its optimum within the greatest number of iterations.
    """

    weights: np.ndarray
    bias: np.ndarray
    strength: float
    converged: bool = True

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predicts the classes, int64 [N], of features, float32 [N, d]."""
        return self.predict_with_probability(features)[0]

    def predict_with_probability(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predicts classes, and their probabilities.

        Args:
            features: The features, float32 [N, d].

        Returns:
            The predicted classes, int64 [N], and their probabilities, float32 [N].
        """
        parts = [features[rows] @ self.weights + self.bias for rows in _batches(features)]
        return (
            np.concatenate([np.argmax(part, -1) for part in parts]),
            np.concatenate([softmax(part, -1).max(-1) for part in parts]),
        )


@dataclass(frozen=True)
class Score:
    """The results of a probe on a test split.

    Attributes:
        accuracy: The share of correctly classified images.
        interval: The 95 % interval of the accuracy over images.
        recall: The recall of each class, in the order of the classes; None for a class without test images.
        hits: Whether each image is correctly classified, bool [N].
        predicted: The predicted classes, int64 [N].
        probability: The probabilities of the predicted classes by the probe, float32 [N].
    """

    accuracy: float
    interval: tuple[float, float]
    recall: list[float | None]
    hits: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: how far the probabilities are from the accuracy (arXiv 1706.04599).

        It is the mean difference of accuracy and mean probability in 15 bins of equal width, weighted by images.
        """
        bins = np.minimum((self.probability * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
        surplus = np.bincount(bins, self.hits - self.probability, _CALIBRATION_BINS)
        return float(np.abs(surplus).sum() / len(self.hits))


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
    with tempfile.TemporaryFile() as file, threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        # The caller decides what to say of a fit that did not converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
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
    return LinearProbe(weights, bias, strength, converged=bool(model.n_iter_.max() < MOST_ITERATIONS))


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=MOST_ITERATIONS, warm_start=True)


def _best_strength(features: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """Returns the strength with the least log loss on held-out images.

    Unlike the accuracy, the log loss differs between strengths that classify the same images correctly, and falls only
    with probabilities that agree with the accuracy. Weaker and weaker regularisation is tried until the loss rises, as
    the weakest takes the longest to fit.
    """
    if np.bincount(labels)[np.unique(labels)].min() < _CROSS_VALIDATION_FOLDS:
        return _DEFAULT_STRENGTH
    splitter = StratifiedKFold(_CROSS_VALIDATION_FOLDS, shuffle=True, random_state=seed)
    folds = [held_out for _, held_out in splitter.split(labels, labels)]
    models = [_regression(_STRENGTHS[0]) for _ in folds]
    best, least = _STRENGTHS[0], math.inf
    for strength in _STRENGTHS:
        loss = 0.0
        for model, held_out in zip(models, folds, strict=True):
            # Weights of 0 leave out the held-out rows; a copy of the other rows may not fit into memory.
            weights = np.ones(len(labels), np.float32)
            weights[held_out] = 0
            model.set_params(C=strength).fit(features, labels, sample_weight=weights)
            loss += sum(
                log_loss(
                    labels[held_out[rows]],
                    model.predict_proba(features[held_out[rows]]),
                    normalize=False,
                    labels=model.classes_,
                )
                for rows in _batches(held_out)
            )
        if loss > least:
            break
        best, least = strength, loss
    return best


def score(probe: LinearProbe, test: Labelled) -> Score:
    """Scores a probe on a test split.

    Args:
        probe: A probe that was fitted on other images.
        test: The features and labels of the test split.
    """
    predicted, probability = probe.predict_with_probability(test.features)
    hits = predicted == test.labels
    recall = recall_score(test.labels, predicted, labels=range(len(probe.bias)), average=None, zero_division=np.nan)
    return Score(
        accuracy=float(hits.mean()),
        interval=significance.accuracy_interval(hits),
        recall=[None if np.isnan(share) else float(share) for share in recall],
        hits=hits,
        predicted=predicted,
        probability=probability,
    )


def _batches(rows: np.ndarray) -> Iterator[slice]:
    return (slice(first, first + _BATCH) for first in range(0, len(rows), _BATCH))
