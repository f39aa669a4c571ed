"""Loads networks that others pretrained: those of Keras, Keras models in files, and SavedModels.

Every network is brought to one form: pixels of any size in, one embedding for each image out, with the network's own
input size and its own scaling of the pixels.

Nothing is unpickled, and no code that the file of a Keras model names is run: Keras loads it in its safe mode, without
custom objects. A SavedModel is a program of TensorFlow's operations, which may read and write files: load one only from
somebody whom you trust.

Keras itself downloads the weights `imagenet`. nnclr's tests do not reach the network, and use local files only.
"""

import difflib
import hashlib
import inspect
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer import export, fitting, progress, storage
from trainer.config import IMAGENET, PretrainedSettings
from trainer.errors import SettingsError

_EMBED_PIXELS, _SERVING_DEFAULT = "embed_pixels", "serving_default"
_SAVED_MODEL = "saved_model.pb"
_WEIGHTS = (".h5", ".hdf5")
# Arguments of Keras' functions that decide on the form of the network, which nnclr chooses.
_CHOSEN = {"include_top", "weights", "input_tensor", "input_shape", "pooling", "classes", "classifier_activation"}
# The classes of the published weights that contain a classifier.
_IMAGENET_CLASSES = 1_000
_MODES = {"tf", "torch", "caffe"}


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
    with _explained(setting, settings):
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
    digest = hashlib.sha256()
    for path in settings.paths:
        files = sorted(_files_below(path)) if tf.io.gfile.isdir(path) else [path]
        for file in files:
            digest.update(file.removeprefix(path).encode())
            with tf.io.gfile.GFile(file, "rb") as content:
                while block := content.read(2**20):
                    digest.update(block)
    return digest.hexdigest()


def _files_below(folder: str) -> Iterator[str]:
    for directory, _, names in tf.io.gfile.walk(folder):
        yield from (f"{directory}/{name}" for name in names)


class _Unusable(Exception):
    """A network cannot be used; the text is a clause that says why and what to do."""


@contextmanager
def _explained(setting: str, settings: PretrainedSettings) -> Iterator[None]:
    """Turns every failure into one sentence.

    Raises:
        SettingsError: Instead of `_Unusable`, and of the exceptions of many types that Keras and TensorFlow raise for
            files that they cannot read.
    """
    try:
        yield
    except _Unusable as problem:
        raise SettingsError(f"{setting}: {settings.network}: {problem}.") from problem
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError(
            f"{setting}: {settings.network} cannot be loaded ({type(error).__name__}: {_short(error)})."
        ) from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300]


def application_names() -> list[str]:
    """Returns the names of the networks that Keras ships."""
    return sorted(name for name, value in vars(keras.applications).items() if inspect.isfunction(value))


def _application(settings: PretrainedSettings) -> Pretrained:
    function = getattr(keras.applications, settings.network, None)
    if not inspect.isfunction(function):
        near = difflib.get_close_matches(settings.network, application_names(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(application_names())}"
        raise _Unusable(f"keras.applications has no such network; {hint} A file or folder is a path with a slash")
    _require_options(function, settings.options)
    size = settings.size or _published_size(function, settings.options)

    def build(**arguments: Any) -> keras.Model:
        return function(**{"input_shape": (size, size, 3), "weights": None, **settings.options, **arguments})

    if settings.weights == IMAGENET:
        model = _downloaded(build)
    else:
        model = build(include_top=False, pooling="avg")
        _load_weights(model, settings.weights, lambda: build(include_top=True, input_shape=None))
    scaled = _scaling(settings.preprocessing) if settings.preprocessing else _own_scaling(settings.network)
    return _of_keras(model, (size, size), scaled)


def _require_options(function: Callable[..., Any], options: dict[str, Any]) -> None:
    known = [name for name in inspect.signature(function).parameters if name not in _CHOSEN | {"name"}]
    for name in options:
        if name not in known:
            raise _Unusable(f"it has no option {name!r}; it has {', '.join(known) or 'none'}")


def _published_size(function: Callable[..., Any], options: dict[str, Any]) -> int:
    """Returns the size of the images that the network's published weights were trained on, in pixels."""
    # Only the network with its classifier knows.
    return function(include_top=True, weights=None, **options).input_shape[1]


def _downloaded(build: Callable[..., keras.Model]) -> keras.Model:
    try:
        with progress.waiting_for("the download of the network's weights"):
            return build(include_top=False, weights=IMAGENET, pooling="avg")
    except Exception as error:
        raise _Unusable(
            f"Keras cannot download the weights imagenet ({_short(error)}); name a local file in weights, or make the "
            "network reachable"
        ) from error


def _load_weights(model: keras.Model, path: str, build_with_classifier: Callable[[], keras.Model]) -> None:
    """Loads weights from a file that was saved with or without the network's classifier."""
    if not path.endswith(_WEIGHTS):
        raise _Unusable(f"weights are {IMAGENET} or the path of a file that ends with .weights.h5 or .h5, not {path}")
    if not Path(path).is_file():
        raise _Unusable(f"the file {path} of weights does not exist")
    try:
        _read(model, path)
    except Exception as error:
        whole = build_with_classifier()
        try:
            _read(whole, path)
        except Exception:
            raise _Unusable(
                f"the weights in {path} do not fit the network, neither without nor with a classifier of "
                f"{_IMAGENET_CLASSES:,} classes ({_short(error)})"
            ) from error
        # The classifier comes after all layers of the network.
        for ours, theirs in zip(_with_weights(model), _with_weights(whole), strict=False):
            ours.set_weights(theirs.get_weights())
    _correct_normalization(model)


def _read(model: keras.Model, path: str) -> None:
    """Loads weights. Keras refuses a file that lacks some."""
    with warnings.catch_warnings():
        # Keras warns of lists of layers that the file has no second copy of.
        warnings.simplefilter("ignore", UserWarning)
        model.load_weights(path)


def _with_weights(model: keras.Model) -> list[keras.Layer]:
    return [layer for layer in model.layers if layer.weights]


def _correct_normalization(model: keras.Model) -> None:
    """Squares the variances of EfficientNet's published weights, which are standard deviations.

    Keras corrects them by another layer if the weights are `imagenet`, but not if they come from a file.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            mean, variance, *count = layer.get_weights()
            if np.allclose(variance, [0.229, 0.224, 0.225], atol=1e-3):
                layer.set_weights([mean, np.square(variance), *count])
                layer.finalize_state()


def _own_scaling(network: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the preprocessing of the module of `keras.applications` that has the network."""
    modules = [module for module in vars(keras.applications).values() if isinstance(module, types.ModuleType)]
    (module, *_) = [module for module in modules if hasattr(module, network)]
    return module.preprocess_input


def _scaling(name: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function of pixels from 0 to 255."""

    def scaled(images: tf.Tensor) -> tf.Tensor:
        if name in _MODES:
            return keras.applications.imagenet_utils.preprocess_input(images, mode=name)
        return images / 255.0 if name == "unit" else images

    return scaled


def _in_a_folder(settings: PretrainedSettings) -> Pretrained:
    path = settings.network.rstrip("/")
    storage.require_tensorflow(path, "network")
    if not tf.io.gfile.exists(path):
        raise _Unusable("there is no such file or folder")
    scaled = _scaling(settings.preprocessing or "unit")
    if tf.io.gfile.exists(f"{path}/{_SAVED_MODEL}"):
        return _saved_model(path, settings, scaled)
    if not path.endswith(".keras") and not tf.io.gfile.exists(f"{path}/config.json"):
        raise _Unusable(
            f"it is neither a .keras file, nor a folder with {_SAVED_MODEL} or with Keras' config.json and weights"
        )
    # Without custom objects and lambdas, which are somebody's code.
    model = keras.saving.load_model(path, compile=False, safe_mode=True)
    inputs = [tuple(tensor.shape) for tensor in model.inputs]
    shape = inputs[0] if len(inputs) == 1 else ()
    return _of_keras(model, _size(shape, settings.size), scaled)


def _size(shape: tuple[int | None, ...], wanted: int | None) -> tuple[int, int]:
    """Returns height and width for a network that takes images of this shape, [N, height, width, channels]."""
    if len(shape) != 4 or shape[3] not in (3, None) or shape[0] is not None:
        raise _Unusable(f"it must take batches of images, [any number, height, width, 3], and takes {list(shape)}")
    height, width = shape[1] or wanted, shape[2] or wanted
    if height is None or width is None:
        raise _Unusable("it takes images of any size; choose one with size")
    if wanted and (height, width) != (wanted, wanted):
        raise _Unusable(f"it takes images of {height} x {width} pixels, not of {wanted}; leave out size")
    return height, width


def _of_keras(model: keras.Model, size: tuple[int, int], scaled: Callable[[tf.Tensor], tf.Tensor]) -> Pretrained:
    return Pretrained(size, lambda images: _pooled(model(scaled(images), training=False)), model)


def _saved_model(path: str, settings: PretrainedSettings, scaled: Callable[[tf.Tensor], tf.Tensor]) -> Pretrained:
    model = tf.saved_model.load(path)
    if _EMBED_PIXELS in model.signatures:
        size = export.image_size(path) or _size((None, None, None, 3), settings.size)
        embed_pixels = model.signatures[_EMBED_PIXELS]

        def embed(images: tf.Tensor) -> tf.Tensor:
            return embed_pixels(pixels=tf.cast(tf.round(images), tf.uint8))["embeddings"]

        return Pretrained(size, embed, model)
    if _SERVING_DEFAULT in model.signatures:
        return _of_signature(model, settings, scaled)
    if callable(model):
        # The form of TensorFlow Hub's modules.
        size = _size((None, None, None, 3), settings.size)
        takes_training = _takes_training(model, size)

        def call(images: tf.Tensor) -> tf.Tensor:
            return _pooled(model(scaled(images), training=False) if takes_training else model(scaled(images)))

        return Pretrained(size, call, model)
    names = ", ".join(model.signatures) or "none"
    raise _Unusable(f"it has neither the signature {_EMBED_PIXELS} nor {_SERVING_DEFAULT}; its signatures: {names}")


def _of_signature(model: Any, settings: PretrainedSettings, scaled: Callable[[tf.Tensor], tf.Tensor]) -> Pretrained:
    """Takes the signature `serving_default` of another program's SavedModel."""
    signature = model.signatures[_SERVING_DEFAULT]
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise _Unusable(
            f"its signature {_SERVING_DEFAULT} must map one tensor of images to one of features, and maps "
            f"{', '.join(inputs)} to {', '.join(outputs)}"
        )
    ((name, given),) = inputs.items()
    if not given.dtype.is_floating:
        raise _Unusable(f"its signature {_SERVING_DEFAULT} must take images as floats, and takes {given.dtype.name}")
    if given.shape.rank is None:
        raise _Unusable(f"its signature {_SERVING_DEFAULT} does not say the shape of the images that it takes")
    (output,) = outputs

    def embed(images: tf.Tensor) -> tf.Tensor:
        return _pooled(signature(**{name: tf.cast(scaled(images), given.dtype)})[output])

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
        raise _Unusable(
            "it must give one row of features for each image, [images, features], or a map of them, [images, height, "
            f"width, features]; for two images it gives {list(embeddings.shape)}"
        )
    if not np.isfinite(embeddings.numpy()).all():
        raise _Unusable("its features are not finite numbers")
