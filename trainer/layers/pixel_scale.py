"""The scales of the pixels that pretrained networks take."""

from typing import Any

import keras
import tensorflow as tf

#: The scales by name: 0 to 1, 0 to 255, and those of the ImageNet networks of these libraries.
UNIT, NONE = "unit", "none"
SCALES = ("tf", "torch", "caffe", UNIT, NONE)


def scaled(images: tf.Tensor, scale: str) -> tf.Tensor:
    """Scales pixels.

    Args:
        images: float32 [..., 3] with values from 0 to 255.
        scale: One of `SCALES`.
    """
    if scale == UNIT:
        return images / 255.0
    return images if scale == NONE else keras.applications.imagenet_utils.preprocess_input(images, mode=scale)


@keras.saving.register_keras_serializable("nnclr")
class PixelScale(keras.layers.Layer):
    """Maps images with values from 0 to 1 to another scale, in float32.

    Args:
        scale: One of `SCALES`.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, scale: str, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})
        self._scale = scale

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that create the same layer."""
        return super().get_config() | {"scale": self._scale}

    def compute_output_shape(self, input_shape):
        """Returns the shape of the input."""
        return input_shape

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps images [N, height, width, 3]."""
        return scaled(inputs * 255.0, self._scale)
