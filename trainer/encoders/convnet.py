"""The Keras example's encoder, and the same with batch norm and average pooling."""

import keras

from trainer.config import CONVNET_CONVOLUTIONS, EncoderSettings
from trainer.layers.batch_norm import BatchNormalization
from trainer.layers.convolution import Conv2D
from trainer.layers.relu import ReLU

_WIDTH = 128


def build(settings: EncoderSettings, size: tuple[int, int], dtype: str) -> keras.Model:
    """Four strided 3x3 convolutions; a dense layer on all positions (keras.io/examples/vision/nnclr) or their mean.

    Args:
        settings: the (last) `width` is also the length of the embedding.
        size: height and width of the images, at least 31 each (four unpadded stride-2 convolutions).
        dtype: Keras dtype policy of the layers.

    Returns:
        A model from float [N, height, width, 3] in [0, 1] to [N, width].
    """
    layers, width = keras.layers, settings.width or _WIDTH
    widths = width if isinstance(width, list) else [width] * CONVNET_CONVOLUTIONS
    flatten = settings.pooling == "flatten"
    stack: list[keras.layers.Layer] = []
    for i, channels in enumerate(widths, 1):
        name = f"conv_{i}"
        if settings.batch_norm:
            # A bias before batch norm would be subtracted again.
            stack.append(Conv2D(channels, 3, strides=2, use_bias=False, dtype=dtype, name=name))
            stack.append(BatchNormalization(dtype=dtype, name=f"norm_{i}"))
            stack.append(ReLU(dtype=dtype, name=f"relu_{i}"))
        else:
            stack.append(Conv2D(channels, 3, strides=2, activation="relu", dtype=dtype, name=name))
    if flatten:
        stack += [
            layers.Flatten(dtype=dtype, name="flatten"),
            layers.Dense(widths[-1], activation="relu", dtype=dtype, name="embedding"),
        ]
    else:
        stack.append(layers.GlobalAveragePooling2D(dtype=dtype, name="embedding"))
    height_and_width = size if flatten else (None, None)
    return keras.Sequential([keras.Input((*height_and_width, 3)), *stack], name="encoder")
