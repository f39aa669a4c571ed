"""Classifiers on frozen features: the measures of a representation."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# Inverse regularisation strengths, a decade apart.
_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_CROSS_VALIDATION_FOLDS = 3
_RESAMPLES = 2_000


@dataclass(frozen=True)
class Labelled:
    """Features, float32 [N, d], and classes, int64 [N], of one split."""

    features: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class LinearProbe:
    """Result of the linear probe.

    Attributes:
        accuracy: on the test split.
        interval: 95 % bootstrap interval of the accuracy over test images.
        recall: per class, in the order of the classes.
        strength: the inverse regularisation that cross-validation inside the train split chose.
    """

    accuracy: float
    interval: tuple[float, float]
    recall: list[float]
    strength: float


def linear_probe(train: Labelled, test: Labelled, classes: int, seed: int) -> LinearProbe:
    """Multinomial logistic regression on standardised features (the protocol of arXiv 1603.08511 and its heirs).

    The regularisation is chosen by cross-validation inside `train`; `test` is looked at once.

    Args:
        train: to fit on.
        test: to score on.
        classes: how many there are; one that `test` lacks has the recall 0.
        seed: of the folds and the bootstrap.
    """
    smallest_class = np.bincount(train.labels)[np.unique(train.labels)].min()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    if smallest_class >= _CROSS_VALIDATION_FOLDS:
        folds = StratifiedKFold(_CROSS_VALIDATION_FOLDS, shuffle=True, random_state=seed)
        model = GridSearchCV(model, {"logisticregression__C": _STRENGTHS}, cv=folds)
        model.fit(train.features, train.labels)
        strength = model.best_params_["logisticregression__C"]
    else:
        # Too few of a class to hold any out: scikit-learn's own default strength.
        model.fit(train.features, train.labels)
        strength = 1.0
    predicted = model.predict(test.features)
    hits = (predicted == test.labels).astype(np.float64)
    recall = recall_score(test.labels, predicted, labels=range(classes), average=None, zero_division=0.0)
    return LinearProbe(float(hits.mean()), _interval(hits, seed), recall.tolist(), strength)


def _interval(hits: np.ndarray, seed: int) -> tuple[float, float]:
    if hits.min() == hits.max():
        return float(hits[0]), float(hits[0])
    drawn = bootstrap(
        [hits],
        np.mean,
        n_resamples=_RESAMPLES,
        method="percentile",
        batch=100,
        random_state=np.random.default_rng(seed),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)
