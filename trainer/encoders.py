"""The networks that turn an image into its embedding. The registry is the match statement at the end."""

import keras

from trainer.config import Encoder


def convnet(size: tuple[int, int], width: int, dtype: str) -> keras.Model:
    """The Keras example's encoder: four strided 3x3 convolutions and a dense layer.

    Args:
        size: height and width of the images, at least 31 each (four unpadded stride-2 convolutions).
        width: channels of each convolution, and length of the embedding.
        dtype: Keras dtype policy of the layers.

    Returns:
        A model from float [N, height, width, 3] in [0, 1] to [N, width].
    """
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((*size, 3)),
            *(
                layers.Conv2D(width, kernel_size=3, strides=2, activation="relu", dtype=dtype, name=f"conv_{i}")
                for i in range(1, 5)
            ),
            layers.Flatten(dtype=dtype, name="flatten"),
            layers.Dense(width, activation="relu", dtype=dtype, name="embedding"),
        ],
        name="encoder",
    )


def build_encoder(settings: Encoder, size: tuple[int, int], dtype: str = "float32") -> keras.Model:
    """Builds the configured encoder; `keras.utils.set_random_seed` decides its weights.

    Args:
        settings: which one, how wide.
        size: height and width of the images.
        dtype: Keras dtype policy; the weights are float32 whatever it is.
    """
    match settings.name:
        case "convnet":
            return convnet(size, settings.width, dtype)
