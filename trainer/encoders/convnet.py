"""The Keras example's encoder, with optional batch norm and other poolings."""

import keras

from trainer.config.networks import CONVNET_CONVOLUTIONS, EncoderSettings
from trainer.layers.batch_norm import BatchNormalization
from trainer.layers.convolution import Conv2D
from trainer.layers.relu import ReLU

_WIDTH = 128


def build(settings: EncoderSettings, size: tuple[int, int], dtype: str) -> keras.Model:
    """Builds four strided 3x3 convolutions and a dense layer on all positions (keras.io/examples/vision/nnclr).

    With average pooling, the mean over the positions replaces the dense layer. With the pooling `layers`, the means and
    the maxima of all four convolutions do, one after the other: a linear classifier finds more in the layers together
    than in the last one (python -m tests.benchmarks.ablation).

    Args:
        settings: Settings of the encoder. The last width is also the length of an embedding, or, with the pooling
            `layers`, twice the sum of all four.
        size: Height and width of the images, at least 31 each because of four unpadded convolutions of stride 2.
        dtype: Keras dtype policy of the layers.

    Returns:
        A model of float images [N, height, width, 3] in [0, 1] to embeddings [N, d].
    """
    layers, width = keras.layers, settings.width or _WIDTH
    widths = width if isinstance(width, list) else [width] * CONVNET_CONVOLUTIONS
    flatten = settings.pooling == "flatten"
    stack: list[keras.layers.Layer] = []
    last_of_each: list[keras.layers.Layer] = []
    for i, channels in enumerate(widths, 1):
        name = f"conv_{i}"
        if settings.batch_norm:
            # Batch norm would subtract a bias again.
            stack.append(Conv2D(channels, 3, strides=2, use_bias=False, dtype=dtype, name=name))
            stack.append(BatchNormalization(dtype=dtype, name=f"norm_{i}"))
            stack.append(ReLU(dtype=dtype, name=f"relu_{i}"))
        else:
            stack.append(Conv2D(channels, 3, strides=2, activation="relu", dtype=dtype, name=name))
        last_of_each.append(stack[-1])
    if settings.pooling == "layers":
        return _with_all_layers_pooled(last_of_each, stack, dtype)
    if flatten:
        stack += [
            layers.Flatten(dtype=dtype, name="flatten"),
            layers.Dense(widths[-1], activation="relu", dtype=dtype, name="embedding"),
        ]
    else:
        stack.append(layers.GlobalAveragePooling2D(dtype=dtype, name="embedding"))
    height_and_width = size if flatten else (None, None)
    return keras.Sequential([keras.Input((*height_and_width, 3)), *stack], name="encoder")


def _with_all_layers_pooled(
    pooled: list[keras.layers.Layer], stack: list[keras.layers.Layer], dtype: str
) -> keras.Model:
    """Returns the stack as a model of the means and maxima, over the positions, of the outputs of some layers."""
    x = images = keras.Input((None, None, 3))
    parts: list[keras.KerasTensor] = []
    for layer in stack:
        x = layer(x)
        if layer in pooled:
            parts += [
                keras.layers.GlobalAveragePooling2D(dtype=dtype, name=f"mean_of_{layer.name}")(x),
                keras.layers.GlobalMaxPooling2D(dtype=dtype, name=f"maximum_of_{layer.name}")(x),
            ]
    return keras.Model(images, keras.layers.Concatenate(dtype=dtype, name="embedding")(parts), name="encoder")
