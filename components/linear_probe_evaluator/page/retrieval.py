"""Selects test images and their nearest neighbours among the training images, which the encoder considers similar."""

from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import NearestNeighbors

from components.linear_probe_evaluator.evaluation import Evaluation
from components.pages.pictures import data_uri
from trainer import splits

_QUERIES = 8
_NEIGHBOURS = 6
_SEED = 0


@dataclass(frozen=True)
class Picture:
    """An image of the page.

    Attributes:
        uri: The image as a data URI.
        class_name: The name of the image's class.
        right: Whether the class is that of the query.
        predicted: The class that the probe predicts, with its probability; None where it does not matter.
    """

    uri: str
    class_name: str
    right: bool
    predicted: str | None = None


@dataclass(frozen=True)
class Row:
    """A test image and its nearest neighbours.

    Attributes:
        query: The test image.
        neighbours: The nearest training images, the nearest first.
    """

    query: Picture
    neighbours: list[Picture]


def examples(evaluation: Evaluation) -> list[Row]:
    """Draws test images of different classes, and finds their nearest neighbours by cosine similarity."""
    assert evaluation.candidate is not None
    return _rows(evaluation, _spread(evaluation.candidate.test.labels))


def mistakes(evaluation: Evaluation) -> list[Row]:
    """Selects the test images that the probe gets wrong with the highest probability, and their nearest neighbours."""
    assert evaluation.candidate is not None
    score = evaluation.candidate.score
    wrong = np.flatnonzero(~score.hits)
    worst = wrong[np.argsort(-score.probability[wrong], kind="stable")][:_QUERIES]
    predicted = [
        f"{evaluation.metrics.class_names[score.predicted[row]]} {score.probability[row]:.0%}" for row in worst
    ]
    return _rows(evaluation, worst, predicted) if len(worst) else []


def _rows(evaluation: Evaluation, queries: np.ndarray, predicted: list[str] | None = None) -> list[Row]:
    assert evaluation.candidate is not None
    assert evaluation.images is not None
    train, test = evaluation.candidate.train, evaluation.candidate.test
    names = evaluation.metrics.class_names
    index = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(train.labels)), metric="cosine").fit(train.features)
    neighbours = index.kneighbors(test.features[queries], return_distance=False)
    shown = evaluation.images(splits.TEST, queries)
    near = evaluation.images(splits.TRAIN, neighbours.ravel()).reshape(*neighbours.shape, *shown.shape[1:])
    return [
        Row(
            Picture(data_uri(shown[i]), names[test.labels[query]], True, predicted[i] if predicted else None),
            [
                Picture(data_uri(near[i, j]), names[train.labels[row]], bool(train.labels[row] == test.labels[query]))
                for j, row in enumerate(neighbours[i])
            ],
        )
        for i, query in enumerate(queries)
    ]


def _spread(labels: np.ndarray) -> np.ndarray:
    """Selects row numbers at random, one of each class in turn, sorted by class."""
    order = np.random.default_rng(_SEED).permutation(len(labels))
    turn = np.empty(len(labels), int)
    for label in np.unique(labels):
        here = order[labels[order] == label]
        turn[here] = np.arange(len(here))
    first = order[np.argsort(turn[order], kind="stable")][:_QUERIES]
    return first[np.argsort(labels[first], kind="stable")]
