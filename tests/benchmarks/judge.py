"""The evaluator's linear probe on encoders that are still in training."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from components.linear_probe_evaluator import probes
from components.linear_probe_evaluator.probes import Labelled, Score
from trainer import data, splits
from trainer.data import LabelledPixels

_BATCH = 500


class Judge:
    """Judges by the splits `train`, where the probe is fitted, and `test`, where it is scored.

    Args:
        files: of each split.
        size: height and width of the images.
    """

    def __init__(self, files: dict[str, list[str]], size: tuple[int, int]):
        self._splits = [data.labelled_pixels(files[split], size) for split in (splits.TRAIN, splits.TEST)]

    def features(self, embed: Callable[[tf.Tensor], tf.Tensor]) -> tuple[Labelled, Labelled]:
        """Embeds `train` and `test` by `embed`, which maps uint8 images to features."""
        train, test = (Labelled(_embedded(embed, split), split.labels) for split in self._splits)
        return train, test

    def score(self, train: Labelled, test: Labelled, seed: int = 0) -> Score:
        """Fits on the one, its regularisation cross-validated, and scores on the other."""
        return probes.score(probes.fit(train, int(train.labels.max()) + 1, seed), test)


def _embedded(embed: Callable[[tf.Tensor], tf.Tensor], split: LabelledPixels) -> np.ndarray:
    parts = [split.pixels[i : i + _BATCH] for i in range(0, len(split.pixels), _BATCH)]
    return np.concatenate([embed(tf.constant(part)).numpy() for part in parts])
