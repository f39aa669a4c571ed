"""Encoders as files that load without nnclr: in Keras' own format, and in ONNX.

Both take `pixels`, [N, height, width, 3] with values from 0 to 255, of exactly the size that the encoder was trained
on. ONNX takes uint8; Keras takes uint8 or any type of float.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from trainer import export
from trainer.layers import batch_norm, convolution, pixel_scale, positions, relu


class Format(NamedTuple):
    """A file format.

    Attributes:
        file: The name of the file in a release.
        write: Writes a model from `keras_model` to a path.
        embed: Maps the path of a file and pixels, uint8 [N, height, width, 3], to embeddings, float32 [N, d].
    """

    file: str
    write: Callable[[keras.Model, str], None]
    embed: Callable[[str, np.ndarray], np.ndarray]


def keras_model(directory: str) -> keras.Model:
    """Loads the encoder of an exported SavedModel as a model that consists of Keras' own layers.

    Layers that an encoder's own package defines remain, and the package must be installed where the model is loaded.

    Args:
        directory: The folder of the SavedModel.

    Returns:
        A float32 model of pixels [N, height, width, 3] from 0 to 255 to embeddings [N, d].

    Raises:
        ValueError: If the encoder is not a functional or sequential Keras model.
    """
    encoder = export.load_encoder(directory)
    plain = keras.models.clone_model(encoder, clone_function=_with_keras_layer, recursive=True)
    pixels = keras.Input((*export.describe(directory).image_size, 3), name="pixels")
    return keras.Model(pixels, plain(keras.layers.Rescaling(1 / 255)(pixels)), name="encoder")


def _with_keras_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Returns a layer of Keras that computes the same at inference, and that all formats can hold.

    Layers for which there is none stay as they are.
    """
    match layer:
        case batch_norm.BatchNormalization():
            config = layer.get_config()
            norm = keras.layers.BatchNormalization(
                momentum=config["momentum"], epsilon=config["epsilon"], name=layer.name
            )
            norm.build_from_config(layer.get_build_config())
            for weight in ("gamma", "beta", "moving_mean", "moving_variance"):
                getattr(norm, weight).assign(getattr(layer, weight))
            return norm
        case convolution.Conv2D():
            convolve = keras.layers.Conv2D.from_config(layer.get_config())
            convolve.build_from_config(layer.get_build_config())
            convolve.set_weights(layer.get_weights())
            return convolve
        case keras.layers.Conv2D() if 1 < layer.groups == layer.filters == layer.get_build_config()["input_shape"][-1]:
            # Keras compiles convolutions of groups by XLA, whose programs tf2onnx cannot translate.
            config = layer.get_config()
            same = ("name", "kernel_size", "strides", "padding", "dilation_rate", "use_bias", "activation")
            depthwise = keras.layers.DepthwiseConv2D(**{key: config[key] for key in same})
            depthwise.build_from_config(layer.get_build_config())
            kernel, *bias = layer.get_weights()
            depthwise.set_weights([kernel.transpose(0, 1, 3, 2), *bias])
            return depthwise
        case keras.layers.Normalization():
            # tf2onnx takes the constants of this layer for inputs.
            mean, deviation = np.ravel(layer.mean), np.sqrt(np.ravel(layer.variance))
            return keras.layers.Rescaling((1 / deviation).tolist(), (-mean / deviation).tolist(), name=layer.name)
        case relu.ReLU():
            return keras.layers.ReLU.from_config(layer.get_config())
        case pixel_scale.PixelScale():
            # Every scale multiplies, adds and orders the three colours, as a product with a matrix does.
            zero, colours = layer(np.zeros((1, 3))).numpy()[0], layer(np.eye(3)).numpy()
            scale = keras.layers.Dense(3, trainable=False, name=layer.name)
            scale.build((None, 3))
            scale.set_weights([colours - zero, zero])
            return scale
        case positions.Positions():
            config, channels = layer.get_config(), layer.output.shape[-1]
            added = layer(np.zeros((1, config["rows"], config["columns"], channels))).numpy()[0]
            return keras.layers.Rescaling(1.0, added.tolist(), name=layer.name)
        case _:
            return layer


def _write_keras(model: keras.Model, path: str) -> None:
    model.save(path)


def _embed_keras(path: str, pixels: np.ndarray) -> np.ndarray:
    return keras.models.load_model(path)(pixels).numpy()


def _write_onnx(model: keras.Model, path: str) -> None:
    # Only here, because tf2onnx takes time to load.
    import trainer.onnx_operations  # noqa: F401

    # The name of the output in the file.
    named = keras.Model(model.input, {"embeddings": model.output})
    signature = [keras.InputSpec(dtype="uint8", shape=model.input.shape, name="pixels")]
    with warnings.catch_warnings():
        # Keras looks for an attribute that NumPy has removed.
        warnings.simplefilter("ignore", FutureWarning)
        named.export(path, format="onnx", verbose=False, input_signature=signature)


def _embed_onnx(path: str, pixels: np.ndarray) -> np.ndarray:
    # Only here, because most processes that import this module need no other program's runtime.
    import onnxruntime

    (embeddings,) = onnxruntime.InferenceSession(path).run(["embeddings"], {"pixels": pixels})
    return embeddings


#: The formats by their names in the settings.
FORMATS = {
    "onnx": Format("encoder.onnx", _write_onnx, _embed_onnx),
    "keras": Format("encoder.keras", _write_keras, _embed_keras),
}
