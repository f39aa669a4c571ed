"""The momentum encoder: a slowly moving average of encoder and projection head, which gives the keys."""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf


class MomentumEncoder(tf.Module):
    """Copies of networks whose weights are moving averages of the networks' own (arXiv 1911.05722, section 3.2).

    Batch norm in the copies normalises by the batch's statistics while training, and collects moving averages of its
    own (as in arXiv 2006.07733 and 2104.02057), unless the encoder keeps the statistics of a pretrained start.

    Every replica computes the same update of its own copy.

    Attributes:
        encoder: The copy of the encoder.
        projection: The copy of the projection head.

    Args:
        originals: The encoder and the projection head to follow.
        copies: Networks of the same architecture, with any weights. They start with the weights of the originals.
        momentum: Share of the copies' weights that the first update keeps.
    """

    def __init__(self, originals: Sequence[keras.Model], copies: Sequence[keras.Model], momentum: float):
        super().__init__(name="momentum_encoder")
        self._originals, self._momentum = list(originals), momentum
        self.encoder, self.projection = copies
        self.start()

    @property
    def networks(self) -> list[keras.Model]:
        """The copies of encoder and projection head."""
        return [self.encoder, self.projection]

    def start(self) -> None:
        """Gives the copies the weights of the originals. Call it after these were loaded."""
        for original, copy in zip(self._originals, self.networks, strict=True):
            copy.set_weights(original.get_weights())

    def project(self, views: tf.Tensor) -> tf.Tensor:
        """Projects views while training, without gradient: float32 [N, height, width, 3] to float32 [N, d]."""
        return tf.stop_gradient(self.projection(self.encoder(views, training=True), training=True))

    def follow(self, share: tf.Tensor) -> None:
        """Moves the copies towards the originals; call it after each update of these.

        The momentum rises to 1 as half a cosine (arXiv 2006.07733, section 3.3).

        Args:
            share: The share of the training that is done, a float32 scalar.
        """
        step = (1 - self._momentum) * (tf.cos(math.pi * share) + 1) / 2
        for original, copy in zip(self._originals, self.networks, strict=True):
            for source, target in zip(original.trainable_variables, copy.trainable_variables, strict=True):
                old = tf.convert_to_tensor(target)
                target.value.assign(old + step * (tf.convert_to_tensor(source) - old))
