"""Encoders as files that load without nnclr: in Keras' own format, and in ONNX.

Both take `pixels`, [N, height, width, 3] with values from 0 to 255, of exactly the size that the encoder was trained
on. ONNX takes uint8; Keras takes uint8 or any type of float.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from trainer import export, portable_layers


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
    """Loads the encoder of an exported SavedModel as a model of Keras' own layers, see `portable_layers.substitute`.

    Layers of other packages remain, and these packages must be installed where the model is loaded.

    Args:
        directory: The folder of the SavedModel.

    Returns:
        A float32 model of pixels [N, height, width, 3] from 0 to 255 to embeddings [N, d].

    Raises:
        ValueError: If the encoder is not a functional or sequential Keras model.
    """
    encoder = export.load_encoder(directory)
    plain = keras.models.clone_model(encoder, clone_function=portable_layers.substitute, recursive=True)
    pixels = keras.Input((*export.describe(directory).image_size, 3), name="pixels")
    return keras.Model(pixels, plain(keras.layers.Rescaling(1 / 255)(pixels)), name="encoder")


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
