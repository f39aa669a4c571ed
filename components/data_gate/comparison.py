"""Compares the images of two splits by TFDV's skew and drift comparators."""

from dataclasses import dataclass
from typing import Literal

# TFX first: it brings a module that this TFDV misses.
from tfx.types import standard_artifacts  # noqa: F401

# isort: split
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from components.data_gate.statistics import Statistics, features, mean
from trainer import examples

#: Smaller splits are not compared: by chance alone, the divergence of 50 images from 50 others is 0.1 to 0.3.
LEAST_IMAGES = 100

#: `skew` compares splits of the same run, `drift` a split with the same one of an earlier run.
Kind = Literal["skew", "drift"]

# The compared features, as sentences name them.
_COMPARED = {
    examples.SOURCE_HEIGHT: "height",
    examples.SOURCE_WIDTH: "width",
    examples.PIXEL_MEAN: "brightness",
    examples.CONTRAST: "contrast",
    examples.SATURATION: "colour saturation",
    examples.RED_GREEN: "red minus green",
    examples.YELLOW_BLUE: "yellow minus blue",
}

_WHOLE_NUMBERS = (examples.SOURCE_HEIGHT, examples.SOURCE_WIDTH)


@dataclass(frozen=True)
class Difference:
    """How a feature of the images differs between two splits.

    Attributes:
        feature: Name of the feature in sentences.
        divergence: Jensen-Shannon divergence of the distributions, 0 (equal) to 1.
        mean: Mean of the feature in the judged split.
        other_mean: Mean of the feature in the other split.
    """

    feature: str
    divergence: float
    mean: float
    other_mean: float


def compare(judged: Statistics, other: Statistics, kind: Kind) -> list[Difference]:
    """Compares size, brightness, contrast and colour of the images.

    Args:
        judged: Statistics of the images to judge.
        other: Statistics of the images to compare them with.
        kind: Which of TFDV's comparators measures the difference.

    Returns:
        The features that both have, the largest divergence first; none if a split has fewer than `LEAST_IMAGES` images.
    """
    names = [name for name in _COMPARED if name in features(judged) & features(other)]
    if not names or min(judged.num_examples, other.num_examples) < LEAST_IMAGES:
        return []
    anomalies = tfdv.validate_statistics(
        _alone(judged),
        _schema(names, kind),
        previous_statistics=_alone(other) if kind == "drift" else None,
        serving_statistics=_alone(other) if kind == "skew" else None,
    )
    found = []
    for info in anomalies.drift_skew_info:
        name = info.path.step[0]
        (measured,) = info.drift_measurements if kind == "drift" else info.skew_measurements
        found.append(Difference(_COMPARED[name], measured.value, mean(judged, name), mean(other, name)))
    return sorted(found, key=lambda difference: -difference.divergence)


def _schema(names: list[str], kind: Kind) -> schema_pb2.Schema:
    schema = schema_pb2.Schema()
    for name in names:
        # TFDV measures only features with a type.
        kind_of_values = schema_pb2.INT if name in _WHOLE_NUMBERS else schema_pb2.FLOAT
        feature = schema.feature.add(name=name, type=kind_of_values)
        comparator = feature.drift_comparator if kind == "drift" else feature.skew_comparator
        # It measures only those with a threshold; the settings' bound is applied to what it measured.
        comparator.jensen_shannon_divergence.threshold = 0.0
    return schema


def _alone(statistics: Statistics) -> statistics_pb2.DatasetFeatureStatisticsList:
    return statistics_pb2.DatasetFeatureStatisticsList(datasets=[statistics])
