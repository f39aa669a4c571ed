"""Positions of the patches of an image, for networks that would not know them otherwise."""

from typing import Any

import keras
import tensorflow as tf

# The longest wavelength, in patches.
_LONGEST = 10_000.0


@keras.saving.register_keras_serializable("nnclr")
class Positions(keras.layers.Layer):
    """Adds sines and cosines of each patch's row and column (arXiv 1706.03762, section 3.5, in two dimensions).

    They need no weights, and are interpolated: the rows and columns of a smaller or larger view lie between those of
    the image's own size, because a small view shows a part of the image in fewer pixels.

    Args:
        rows: Number of rows of patches of an image of the size that is trained on.
        columns: Number of columns.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, rows: int, columns: int, **kwargs):
        super().__init__(**kwargs)
        self._rows, self._columns = rows, columns

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that create the same layer."""
        return super().get_config() | {"rows": self._rows, "columns": self._columns}

    def compute_output_shape(self, input_shape):
        """Returns the shape of the input."""
        return input_shape

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps patches [N, rows, columns, channels] to the same shape; channels are a multiple of 4."""
        rows, columns, channels = tf.shape(inputs)[1], tf.shape(inputs)[2], inputs.shape[3]
        down = _waves(rows, self._rows, channels // 4)[:, tf.newaxis]
        across = _waves(columns, self._columns, channels // 4)[tf.newaxis]
        shape = [rows, columns, channels // 2]
        waves = tf.concat([tf.broadcast_to(down, shape), tf.broadcast_to(across, shape)], axis=-1)
        return inputs + tf.cast(waves, inputs.dtype)


def _waves(count: tf.Tensor, usual: int, frequencies: int) -> tf.Tensor:
    """Returns sines and cosines of the centres of `count` patches on a side of `usual` patches.

    The result is float32 [count, 2 * frequencies].
    """
    centres = (tf.range(tf.cast(count, tf.float32)) + 0.5) * (usual / tf.cast(count, tf.float32)) - 0.5
    wavelengths = _LONGEST ** (tf.range(frequencies, dtype=tf.float32) / frequencies)
    angles = centres[:, tf.newaxis] / wavelengths
    return tf.concat([tf.sin(angles), tf.cos(angles)], axis=-1)
