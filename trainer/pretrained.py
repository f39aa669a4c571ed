"""Loads networks that others pretrained: those of Keras, Keras models in files, and SavedModels.

Every network is brought to one form: pixels of any size in, one embedding for each image out, with the network's own
input size and its own scaling of the pixels.

Networks of Keras are loaded by `keras_networks`. A SavedModel is a program of TensorFlow's operations, which may read
and write files: load one only from somebody whom you trust.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer import export, fitting, keras_networks, storage
from trainer.config.networks import PretrainedSettings
from trainer.keras_networks import Unusable
from trainer.layers.pixel_scale import UNIT, scaled

_EMBED_PIXELS, _SERVING_DEFAULT = "embed_pixels", "serving_default"

# Scales pixels from 0 to 255 for a network.
_Scaling = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Pretrained:
    """A network in the form that `export_pretrained` writes.

    Attributes:
        size: Height and width of the images that the network takes, in pixels.
        embed: Maps images, float32 [N, height, width, 3] with values from 0 to 255, to embeddings, float32 [N, d].
        model: The Keras model or the loaded SavedModel that `embed` calls, which keeps the variables.
    """

    size: tuple[int, int]
    embed: Callable[[tf.Tensor], tf.Tensor]
    model: Any


class _PretrainedEmbedder(tf.Module):
    """The network as a module that TensorFlow saves."""

    def __init__(self, network: Pretrained):
        super().__init__(name="pretrained")
        # As an attribute, so that its variables are saved.
        self._model, self._embed, self._size = network.model, network.embed, network.size

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="pixels")])
    def embed_pixels(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Maps pixels, uint8 [N, h, w, 3], to `embeddings`, float32 [N, d]."""
        return {"embeddings": self._embed(fitting.fit(pixels, self._size))}


def export_pretrained(network: Pretrained, directory: str) -> None:
    """Writes a network as a SavedModel with the signature `embed_pixels`, as `export.Embeddings` reads it.

    Args:
        network: The network.
        directory: Folder to create, local or `gs://`.
    """
    embedder = _PretrainedEmbedder(network)
    tf.saved_model.save(embedder, directory, signatures={_EMBED_PIXELS: embedder.embed_pixels})


def load(settings: PretrainedSettings, setting: str) -> Pretrained:
    """Loads a network, and tries it on two images.

    Args:
        settings: The network.
        setting: Name of the setting or argument that names it, for errors.

    Raises:
        SettingsError: If there is no such network or file, or if it gives no embeddings.
    """
    with keras_networks.explained(setting, settings.network):
        network = _in_a_folder(settings) if settings.is_path else _application(settings)
        _require_embeddings(network)
    return network


def require_loadable(networks: tuple[PretrainedSettings, ...], setting: str) -> None:
    """Loads each network once, so that a mistake is told before a long training.

    Args:
        networks: The networks.
        setting: Name of the setting that names them, for errors.

    Raises:
        SettingsError: If one of them cannot be loaded or gives no embeddings.
    """
    for network in networks:
        load(network, setting)


def fingerprint(settings: PretrainedSettings) -> str:
    """Returns a hash of the files of a network; it is the same for all networks that Keras downloads."""
    return keras_networks.fingerprint(settings.paths)


def _application(settings: PretrainedSettings) -> Pretrained:
    wanted = (settings.size, settings.size) if settings.size else None
    model, size = keras_networks.application(settings.network, settings.weights, settings.options, wanted)
    return _of_keras(model, size, _scaling(settings.preprocessing or keras_networks.own_scale(settings.network)))


def _in_a_folder(settings: PretrainedSettings) -> Pretrained:
    path = settings.network.rstrip("/")
    storage.require_tensorflow(path, "network")
    scaling = _scaling(settings.preprocessing or UNIT)
    if keras_networks.is_saved_model(path):
        return _saved_model(path, settings, scaling)
    model = keras_networks.from_files(path)
    inputs = [tuple(tensor.shape) for tensor in model.inputs]
    shape = inputs[0] if len(inputs) == 1 else ()
    return _of_keras(model, _size(shape, settings.size), scaling)


def _scaling(scale: str) -> _Scaling:
    return functools.partial(scaled, scale=scale)


def _size(shape: tuple[int | None, ...], wanted: int | None) -> tuple[int, int]:
    """Returns height and width for a network that takes images of this shape, [N, height, width, channels]."""
    if len(shape) != 4 or shape[3] not in (3, None) or shape[0] is not None:
        raise Unusable(f"it must take batches of images, [any number, height, width, 3], and takes {list(shape)}")
    height, width = shape[1] or wanted, shape[2] or wanted
    if height is None or width is None:
        raise Unusable("it takes images of any size; choose one with size")
    if wanted and (height, width) != (wanted, wanted):
        raise Unusable(f"it takes images of {height} x {width} pixels, not of {wanted}; leave out size")
    return height, width


def _of_keras(model: keras.Model, size: tuple[int, int], scaling: _Scaling) -> Pretrained:
    return Pretrained(size, lambda images: _pooled(model(scaling(images), training=False)), model)


def _saved_model(path: str, settings: PretrainedSettings, scaling: _Scaling) -> Pretrained:
    model = tf.saved_model.load(path)
    if _EMBED_PIXELS in model.signatures:
        size = export.image_size(path) or _size((None, None, None, 3), settings.size)
        embed_pixels = model.signatures[_EMBED_PIXELS]

        def embed(images: tf.Tensor) -> tf.Tensor:
            return embed_pixels(pixels=tf.cast(tf.round(images), tf.uint8))["embeddings"]

        return Pretrained(size, embed, model)
    if _SERVING_DEFAULT in model.signatures:
        return _of_signature(model, settings, scaling)
    if callable(model):
        # The form of TensorFlow Hub's modules.
        size = _size((None, None, None, 3), settings.size)
        takes_training = _takes_training(model, size)

        def call(images: tf.Tensor) -> tf.Tensor:
            return _pooled(model(scaling(images), training=False) if takes_training else model(scaling(images)))

        return Pretrained(size, call, model)
    names = ", ".join(model.signatures) or "none"
    raise Unusable(f"it has neither the signature {_EMBED_PIXELS} nor {_SERVING_DEFAULT}; its signatures: {names}")


def _of_signature(model: Any, settings: PretrainedSettings, scaling: _Scaling) -> Pretrained:
    """Takes the signature `serving_default` of another program's SavedModel."""
    signature = model.signatures[_SERVING_DEFAULT]
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise Unusable(
            f"its signature {_SERVING_DEFAULT} must map one tensor of images to one of features, and maps "
            f"{', '.join(inputs)} to {', '.join(outputs)}"
        )
    ((name, given),) = inputs.items()
    if not given.dtype.is_floating:
        raise Unusable(f"its signature {_SERVING_DEFAULT} must take images as floats, and takes {given.dtype.name}")
    if given.shape.rank is None:
        raise Unusable(f"its signature {_SERVING_DEFAULT} does not say the shape of the images that it takes")
    (output,) = outputs

    def embed(images: tf.Tensor) -> tf.Tensor:
        return _pooled(signature(**{name: tf.cast(scaling(images), given.dtype)})[output])

    return Pretrained(_size(tuple(given.shape), settings.size), embed, model)


def _takes_training(model: Callable[..., Any], size: tuple[int, int]) -> bool:
    try:
        model(tf.zeros([1, *size, 3]), training=False)
    except (TypeError, ValueError):
        return False
    return True


def _pooled(features: tf.Tensor) -> tf.Tensor:
    """Averages features over the positions of the image, if they have positions: float32 [N, d]."""
    if features.shape.rank == 4:
        features = tf.reduce_mean(features, [1, 2])
    return tf.cast(features, tf.float32)


def _require_embeddings(network: Pretrained) -> None:
    images = tf.random.stateless_uniform([2, *network.size, 3], seed=[0, 0], maxval=255.0)
    embeddings = network.embed(images)
    if embeddings.shape.rank != 2 or embeddings.shape[0] != 2:
        raise Unusable(
            "it must give one row of features for each image, [images, features], or a map of them, [images, height, "
            f"width, features]; for two images it gives {list(embeddings.shape)}"
        )
    if not np.isfinite(embeddings.numpy()).all():
        raise Unusable("its features are not finite numbers")
