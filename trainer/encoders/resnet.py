"""Residual networks (arXiv 1512.03385), with another stem for small images."""

from collections.abc import Callable

import keras

from trainer.config import EncoderSettings
from trainer.layers.batch_norm import BatchNormalization
from trainer.layers.relu import ReLU

_WIDTH = 64
# Images with fewer pixels a side get a stem that keeps their size (arXiv 2002.05709, appendix B.9, for CIFAR-10),
# because the standard stem divides height and width by 4.
_SMALL = 128


class _Layers:
    """Creates the layers of a network with their names, dtype policy and initialisation."""

    def __init__(self, dtype: str):
        self._dtype = dtype

    def conv(self, x, channels: int, kernel: int, strides: int, name: str):
        """Convolves without bias, and with the padding of PyTorch's ResNets, which is symmetric for any stride."""
        if kernel > 1:
            x = keras.layers.ZeroPadding2D(kernel // 2, dtype=self._dtype, name=f"{name}_pad")(x)
        return keras.layers.Conv2D(
            channels, kernel, strides, use_bias=False, kernel_initializer="he_normal", dtype=self._dtype, name=name
        )(x)

    def norm(self, x, name: str, zero_init: bool = False):
        return BatchNormalization(zero_init=zero_init, dtype=self._dtype, name=name)(x)

    def relu(self, x, name: str):
        return ReLU(dtype=self._dtype, name=name)(x)

    def add(self, x, shortcut, name: str):
        return keras.layers.Add(dtype=self._dtype, name=name)([x, shortcut])

    def norm_relu(self, x, name: str):
        return self.relu(self.norm(x, f"{name}_norm"), f"{name}_relu")


def _basic(layers: _Layers, x, channels: int, strides: int, name: str):
    """Adds two 3x3 convolutions."""
    x = layers.norm_relu(layers.conv(x, channels, 3, strides, f"{name}_conv1"), f"{name}_conv1")
    return layers.conv(x, channels, 3, 1, f"{name}_conv2")


def _bottleneck(layers: _Layers, x, channels: int, strides: int, name: str):
    """Adds convolutions of 1x1, of 3x3 (with the stride, as in ResNet v1.5), and of 1x1 to four times the channels."""
    x = layers.norm_relu(layers.conv(x, channels, 1, 1, f"{name}_conv1"), f"{name}_conv1")
    x = layers.norm_relu(layers.conv(x, channels, 3, strides, f"{name}_conv2"), f"{name}_conv2")
    return layers.conv(x, 4 * channels, 1, 1, f"{name}_conv3")


def _resnet(
    branch: Callable, blocks: tuple[int, ...], settings: EncoderSettings, size: tuple[int, int], dtype: str
) -> keras.Model:
    layers, width = _Layers(dtype), settings.width or _WIDTH
    assert isinstance(width, int)  # The settings refuse a list.
    images = keras.Input((None, None, 3))
    small = min(size) < _SMALL
    x = layers.conv(images, width, 3 if small else 7, 1 if small else 2, "stem")
    x = layers.norm_relu(x, "stem")
    if not small:
        x = keras.layers.ZeroPadding2D(1, dtype=dtype, name="stem_pool_pad")(x)
        x = keras.layers.MaxPooling2D(3, 2, dtype=dtype, name="stem_pool")(x)
    for stage, repetitions in enumerate(blocks):
        for block in range(repetitions):
            name = f"stage{stage + 1}_block{block + 1}"
            strides = 2 if stage and not block else 1
            shortcut = x
            x = branch(layers, x, width * 2**stage, strides, name)
            if shortcut.shape[-1] != x.shape[-1] or strides > 1:
                shortcut = layers.conv(shortcut, x.shape[-1], 1, strides, f"{name}_shortcut")
                shortcut = layers.norm(shortcut, f"{name}_shortcut_norm")
            x = layers.norm(x, f"{name}_norm", zero_init=True)
            x = layers.relu(layers.add(x, shortcut, f"{name}_add"), f"{name}_relu")
    embeddings = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="embedding")(x)
    return keras.Model(images, embeddings, name="encoder")


def build_resnet18(settings: EncoderSettings, size: tuple[int, int], dtype: str) -> keras.Model:
    """Builds a ResNet-18 with embeddings of length 8 x width; see `trainer.encoders.Builder`."""
    return _resnet(_basic, (2, 2, 2, 2), settings, size, dtype)


def build_resnet50(settings: EncoderSettings, size: tuple[int, int], dtype: str) -> keras.Model:
    """Builds a ResNet-50 with embeddings of length 32 x width; see `trainer.encoders.Builder`."""
    return _resnet(_bottleneck, (3, 4, 6, 3), settings, size, dtype)
