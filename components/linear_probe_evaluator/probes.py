"""The linear probe: a classifier on frozen features, the measure of a representation."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from components.linear_probe_evaluator.artifact import Difference

# Inverse regularisation strengths, a decade apart.
_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
# scikit-learn's own, for where there are too few images of a class to hold any out.
_DEFAULT_STRENGTH = 1.0
_CROSS_VALIDATION_FOLDS = 3
_RESAMPLES = 2_000
_BATCH = 4_096


@dataclass(frozen=True)
class Labelled:
    """Features, float32 [N, d], and classes, int64 [N], of one split. The features may lie on disk, as a memory map."""

    features: np.ndarray
    labels: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "Labelled":
        return Labelled(self.features[rows], self.labels[rows])


@dataclass(frozen=True)
class LinearProbe:
    """A fitted linear classifier.

    Attributes:
        weights: float32 [d, classes], for features as they are.
        bias: float32 [classes]; minus infinity for a class that the fit never saw.
        strength: the inverse regularisation that was fitted with.
    """

    weights: np.ndarray
    bias: np.ndarray
    strength: float

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The classes of features [N, d]: int64 [N]."""
        return np.concatenate([np.argmax(features[rows] @ self.weights + self.bias, -1) for rows in _batches(features)])


@dataclass(frozen=True)
class Score:
    """How a probe does on a test split.

    Attributes:
        accuracy: share of images classified rightly.
        interval: its 95 % bootstrap interval over images.
        recall: per class, in the order of the classes.
        hits: 1.0 where an image is classified rightly, else 0.0: [N].
        predicted: classes, [N].
    """

    accuracy: float
    interval: tuple[float, float]
    recall: list[float]
    hits: np.ndarray
    predicted: np.ndarray


def fit(train: Labelled, classes: int, seed: int, strength: float | None = None) -> LinearProbe:
    """Multinomial logistic regression on standardised features (the protocol of arXiv 1603.08511 and its heirs).

    Memory stays flat however many images there are: the standardised features go to a temporary file.

    Args:
        train: to fit on.
        classes: how many there are; `train` may lack some.
        seed: of the folds.
        strength: inverse regularisation; None chooses it by cross-validation inside `train`.
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
    # Each step of the fit is small: threads would wait for each other longer than they compute.
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
        # Of two classes scikit-learn keeps the second one's column alone: the first one's is zero.
        columns, offsets = columns * [[0, 1]], offsets * [0, 1]
    weights[:, present] = columns / scaler.scale_[:, np.newaxis]
    bias[present] = offsets - scaler.mean_ @ weights[:, present]
    return LinearProbe(weights, bias, strength)


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=1_000, warm_start=True)


def _best_strength(features: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """From the strongest regularisation on, as long as weaker ones do better: the weakest take by far the longest."""
    if np.bincount(labels)[np.unique(labels)].min() < _CROSS_VALIDATION_FOLDS:
        return _DEFAULT_STRENGTH
    splitter = StratifiedKFold(_CROSS_VALIDATION_FOLDS, shuffle=True, random_state=seed)
    folds = [held_out for _, held_out in splitter.split(labels, labels)]
    models = [_regression(_STRENGTHS[0]) for _ in folds]
    best, most = _STRENGTHS[0], 0
    for strength in _STRENGTHS:
        hits = 0
        for model, held_out in zip(models, folds, strict=True):
            # Weights instead of a copy of the other rows, which may be too many for memory.
            wanted = np.ones(len(labels), np.float32)
            wanted[held_out] = 0
            model.set_params(C=strength).fit(features, labels, sample_weight=wanted)
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
    """Classifies `test`; a class that it lacks has the recall 0.

    Args:
        probe: fitted on other images.
        test: to score on.
        seed: of the bootstrap.
    """
    predicted = probe.predict(test.features)
    hits = (predicted == test.labels).astype(np.float64)
    recall = recall_score(test.labels, predicted, labels=range(len(probe.bias)), average=None, zero_division=0.0)
    return Score(float(hits.mean()), _interval(hits, seed), recall.tolist(), hits, predicted)


def difference(ours: Score, theirs: Score, seed: int) -> Difference:
    """Compares two scores image by image: most of what makes an image hard is the same for both."""
    gains = ours.hits - theirs.hits
    low, high = _interval(gains, seed)
    return Difference(mean=float(gains.mean()), low=low, high=high)


def _interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over images."""
    if values.min() == values.max():
        return float(values[0]), float(values[0])
    drawn = bootstrap(
        [values],
        np.mean,
        n_resamples=_RESAMPLES,
        method="percentile",
        batch=100,
        random_state=np.random.default_rng(seed),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def _batches(rows: np.ndarray) -> Iterator[slice]:
    return (slice(first, first + _BATCH) for first in range(0, len(rows), _BATCH))
