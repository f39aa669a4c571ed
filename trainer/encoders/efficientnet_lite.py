"""EfficientNet-Lite0: EfficientNet-B0 (arXiv 1905.11946) without squeeze-and-excitation and with ReLU6, for devices."""

import math
from typing import NamedTuple

import keras

from trainer.config import EncoderSettings
from trainer.layers.batch_norm import BatchNormalization

# The stem and the head keep the channels of EfficientNet-B0.
_STEM, _HEAD = 32, 1280
_EPSILON = 1e-3


class _Stage(NamedTuple):
    """Blocks with the same number of channels; only the first one has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class _Layers:
    """Creates convolutions with their batch norm, with names and dtype policy."""

    def __init__(self, dtype: str):
        self._dtype = dtype

    def conv(self, x, channels: int, kernel: int, stride: int, name: str, relu: bool = True):
        convolve = keras.layers.Conv2D(
            channels,
            kernel,
            stride,
            "same",
            use_bias=False,
            kernel_initializer="he_normal",
            dtype=self._dtype,
            name=name,
        )
        return self._normalised(convolve(x), name, relu)

    def depthwise(self, x, kernel: int, stride: int, name: str):
        # He initialisation: an output sees a single channel, but Keras' initialiser counts all.
        normal = keras.initializers.RandomNormal(stddev=math.sqrt(2) / kernel)
        convolve = keras.layers.DepthwiseConv2D(
            kernel,
            stride,
            "same",
            use_bias=False,
            depthwise_initializer=normal,
            dtype=self._dtype,
            name=name,
        )
        return self._normalised(convolve(x), name, relu=True)

    def add(self, x, shortcut, name: str):
        return keras.layers.Add(dtype=self._dtype, name=name)([x, shortcut])

    def _normalised(self, x, name: str, relu: bool):
        x = BatchNormalization(epsilon=_EPSILON, dtype=self._dtype, name=f"{name}_norm")(x)
        return keras.layers.ReLU(6.0, dtype=self._dtype, name=f"{name}_relu")(x) if relu else x


def build_lite0(settings: EncoderSettings, size: tuple[int, int], dtype: str) -> keras.Model:
    """Builds an EfficientNet-Lite0 with embeddings of length 1280; see `trainer.encoders.Builder`.

    Paddings and the scale of the pixels are those that the published weights were trained with.
    """
    layers = _Layers(dtype)
    images = keras.Input((None, None, 3))
    # (pixel - 127) / 128, for pixels from 0 to 255.
    x = keras.layers.Rescaling(255 / 128, -127 / 128, dtype=dtype, name="scale")(images)
    x = layers.conv(x, _STEM, 3, 2, "stem")
    for number, stage in enumerate(_STAGES, 1):
        for block in range(stage.blocks):
            name, shortcut = f"stage{number}_block{block + 1}", x
            stride = 1 if block else stage.stride
            if stage.expansion > 1:
                x = layers.conv(x, stage.expansion * x.shape[-1], 1, 1, f"{name}_expand")
            x = layers.depthwise(x, stage.kernel, stride, f"{name}_depthwise")
            x = layers.conv(x, stage.channels, 1, 1, f"{name}_project", relu=False)
            if block:
                x = layers.add(x, shortcut, f"{name}_add")
    x = layers.conv(x, _HEAD, 1, 1, "head")
    embeddings = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="embedding")(x)
    return keras.Model(images, embeddings, name="encoder")
