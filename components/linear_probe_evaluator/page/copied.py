"""Shows images of two splits that are, or may be, the same picture, side by side."""

from dataclasses import dataclass

import numpy as np

from components.linear_probe_evaluator.copies import Place
from components.linear_probe_evaluator.evaluation import Evaluation
from components.pages.pictures import data_uri
from trainer import splits


@dataclass(frozen=True)
class Picture:
    """An image of the page.

    Attributes:
        uri: The image as a data URI.
        split: Its split.
        id: Its id.
        class_name: The name of its class; None if it has none.
    """

    uri: str
    split: str
    id: str
    class_name: str | None


@dataclass(frozen=True)
class Pair:
    """Two images of different splits, and whether their pixels are equal."""

    pictures: tuple[Picture, Picture]
    identical: bool


def pairs(evaluation: Evaluation) -> list[Pair]:
    """Reads the images of `evaluation.copies`."""
    return [
        Pair((_picture(evaluation, copy.image), _picture(evaluation, copy.other)), copy.identical)
        for copy in evaluation.copies
    ]


def _picture(evaluation: Evaluation, place: Place) -> Picture:
    assert evaluation.images is not None
    (image,) = evaluation.images(place.split, np.array([place.row]))
    name = None if place.label == splits.NO_LABEL else evaluation.metrics.class_names[place.label]
    return Picture(data_uri(image), place.split, place.id, name)
