"""Loads Keras' networks: those of `keras.applications`, Keras models in files, and weights in files.

Nothing is unpickled, and no code that a file names is run: Keras loads in its safe mode, without custom objects.

Keras itself downloads the weights `imagenet`. nnclr's tests do not reach the network, and use local files only.
"""

import difflib
import hashlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer import progress
from trainer.config.networks import IMAGENET
from trainer.errors import SettingsError
from trainer.layers.pixel_scale import SCALES, scaled

#: The file by which a folder with a SavedModel is known.
SAVED_MODEL = "saved_model.pb"

_WEIGHTS = (".h5", ".hdf5")
# Arguments of Keras' functions that decide on the form of the network, which nnclr chooses.
_CHOSEN = {"include_top", "weights", "input_tensor", "input_shape", "pooling", "classes", "classifier_activation"}
# The classes of the published weights that contain a classifier.
_IMAGENET_CLASSES = 1_000


class Unusable(Exception):
    """A network cannot be used; the text is a clause that says why and what to do."""


@contextmanager
def explained(setting: str, network: str) -> Iterator[None]:
    """Turns every failure into one sentence.

    Args:
        setting: Name of the setting or argument that names the network.
        network: The network.

    Raises:
        SettingsError: Instead of `Unusable`, and of the exceptions of many types that Keras and TensorFlow raise for
            files that they cannot read.
    """
    try:
        yield
    except Unusable as problem:
        raise SettingsError(f"{setting}: {network}: {problem}.") from problem
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError(
            f"{setting}: {network} cannot be loaded ({type(error).__name__}: {_short(error)})."
        ) from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300]


def application_names() -> list[str]:
    """Returns the names of the networks that Keras ships."""
    return sorted(name for name, value in vars(keras.applications).items() if inspect.isfunction(value))


def application(
    network: str, weights: str | None, options: dict[str, Any], size: tuple[int, int] | None
) -> tuple[keras.Model, tuple[int, int]]:
    """Builds a network of `keras.applications` without its classifier.

    Args:
        network: Its name, such as MobileNetV2.
        weights: `imagenet`, the path of a file with weights, or None for random ones.
        options: Further arguments of the function that builds it.
        size: Height and width of the images; None is the size that its published weights were trained on.

    Returns:
        The network, a model of images [N, height, width, 3] to embeddings [N, d], and the size of the images.

    Raises:
        Unusable: If there is no such network, option or file, or if the weights do not fit.
    """
    function = getattr(keras.applications, network, None)
    if not inspect.isfunction(function):
        near = difflib.get_close_matches(network, application_names(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(application_names())}"
        raise Unusable(f"keras.applications has no such network; {hint} A file or folder is a path with a slash")
    _require_options(function, options)
    height, width = size or _published_size(function, options)

    def build(**arguments: Any) -> keras.Model:
        return function(**{"input_shape": (height, width, 3), "weights": None, **options, **arguments})

    if weights == IMAGENET:
        return _downloaded(build), (height, width)
    model = build(include_top=False, pooling="avg")
    if weights is not None:
        _load_own_weights(model, weights, lambda: build(include_top=True, input_shape=None))
    return model, (height, width)


def _require_options(function: Callable[..., Any], options: dict[str, Any]) -> None:
    known = [name for name in inspect.signature(function).parameters if name not in _CHOSEN | {"name"}]
    for name in options:
        if name not in known:
            raise Unusable(f"it has no option {name!r}; it has {', '.join(known) or 'none'}")


def _published_size(function: Callable[..., Any], options: dict[str, Any]) -> tuple[int, int]:
    """Returns the size of the images that the network's published weights were trained on, in pixels."""
    # Only the network with its classifier knows.
    return function(include_top=True, weights=None, **options).input_shape[1:3]


def _downloaded(build: Callable[..., keras.Model]) -> keras.Model:
    try:
        with progress.waiting_for("the download of the network's weights"), warnings.catch_warnings():
            # Some networks warn of images of another size than 224 pixels.
            warnings.simplefilter("ignore", UserWarning)
            return build(include_top=False, weights=IMAGENET, pooling="avg")
    except Exception as error:
        raise Unusable(
            f"Keras cannot download the weights imagenet ({_short(error)}); name a local file in weights, or make the "
            "network reachable"
        ) from error


def load_weights(model: keras.Model, path: str) -> None:
    """Loads the weights of a file that Keras saved for the same network.

    Raises:
        Unusable: If there is no such file, or if the weights do not fit.
    """
    _require_weights(path)
    try:
        _read(model, path)
    except Exception as error:
        raise Unusable(f"the weights in {path} do not fit it ({_short(error)})") from error


def _require_weights(path: str) -> None:
    if not path.endswith(_WEIGHTS):
        raise Unusable(f"weights are {IMAGENET} or the path of a file that ends with .weights.h5 or .h5, not {path}")
    if not Path(path).is_file():
        raise Unusable(f"the file {path} of weights does not exist")


def _load_own_weights(model: keras.Model, path: str, build_with_classifier: Callable[[], keras.Model]) -> None:
    """Loads weights from a file that was saved with or without the network's classifier."""
    _require_weights(path)
    try:
        _read(model, path)
    except Exception as error:
        whole = build_with_classifier()
        try:
            _read(whole, path)
        except Exception:
            raise Unusable(
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


def own_scale(network: str) -> str:
    """Returns the scale of the pixels that a network of `keras.applications` takes, one of `SCALES`."""
    # The module in which the network is defined. Keras' public modules lack some networks, such as MobileNetV3Small.
    module = inspect.getmodule(getattr(keras.applications, network))
    pixels = np.array([[[0, 51, 102], [153, 204, 255]]], np.float32)
    own = vars(module)["preprocess_input"](pixels.copy())
    return next(scale for scale in SCALES if np.allclose(scaled(pixels.copy(), scale), own, atol=1e-3))


def is_saved_model(path: str) -> bool:
    """Returns whether a folder holds a SavedModel."""
    return tf.io.gfile.exists(f"{path}/{SAVED_MODEL}")


def from_files(path: str) -> keras.Model:
    """Loads a .keras file, or a folder with a Keras model.

    Raises:
        Unusable: If there is no such model.
    """
    if not tf.io.gfile.exists(path):
        raise Unusable("there is no such file or folder")
    if not path.endswith(".keras") and not tf.io.gfile.exists(f"{path}/config.json"):
        raise Unusable(
            f"it is neither a .keras file, nor a folder with {SAVED_MODEL} or with Keras' config.json and weights"
        )
    # Without custom objects and lambdas, which are somebody's code.
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def fingerprint(paths: tuple[str, ...]) -> str:
    """Returns a hash of the contents of files and folders."""
    digest = hashlib.sha256()
    for path in paths:
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
