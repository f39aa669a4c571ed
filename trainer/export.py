"""Exports encoders as SavedModels, and reads them back."""

import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from pydantic import ValidationError

from trainer import aside, storage
from trainer.config import EncoderSettings, TrainerSettings
from trainer.encoders import build_encoder, network
from trainer.errors import SettingsError
from trainer.results import EncoderDescription, TrainingFigures
from trainer.signatures import Classifier, ClassifyingEmbedder, Embedder

# The bytes of pixels that a network is given at once. The memory that a network needs grows with them: with 8 MiB, a
# convnet of 128 channels needs about 0.4 GB.
_BATCH_BYTES = 8 * 2**20
# More images at once are not faster, however small they are.
_MOST_AT_ONCE = 256
# TensorFlow Serving reserves this folder for a model's own files.
_DESCRIPTION = "assets.extra/nnclr.json"
# The architecture of an encoder that is a network of Keras: where it came from may be gone.
_ARCHITECTURE = "assets.extra/encoder.json"
_CLASSIFY_EMBEDDINGS = "classify_embeddings"
# A folder without this file is no SavedModel.
_LAST_FILE = "saved_model.pb"
# Errors of a storage or machine, which say nothing of a model.
_PASSING = (
    *(tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError, tf.errors.CancelledError),
    *(tf.errors.PermissionDeniedError, tf.errors.UnauthenticatedError, tf.errors.ResourceExhaustedError),
)


def export_encoder(
    encoder: keras.Model,
    settings: TrainerSettings,
    size: tuple[int, int],
    directory: str,
    training: TrainingFigures | None = None,
) -> None:
    """Writes an encoder as a SavedModel.

    The signatures are `serving_default` (`image_bytes`, strings [N]) and `embed_pixels` (`pixels`, uint8
    [N, h, w, 3]). Both return `embeddings`, float32 [N, d], the encoder's output before the projection head.

    Args:
        encoder: The encoder, of any strategy and precision. The export computes in float32 on one device.
        settings: Settings of the encoder's training, written beside it.
        size: Height and width of the images that the encoder was trained on.
        directory: Folder to create, local or `gs://`. Its parent must exist.
        training: Figures of the training, written beside the encoder; None if it is untrained.
    """
    if settings.encoder.is_of_keras:
        plain = network.copied(encoder, "float32")
    else:
        plain = build_encoder(settings.encoder.architecture, size)
        plain.set_weights(encoder.get_weights())
    description = EncoderDescription(image_size=size, settings=settings, training=training)
    _save(Embedder(plain, size), plain, description, directory)


def export_with_classifier(directory: str, classifier: Classifier, target: str) -> None:
    """Exports the encoder of an exported SavedModel again, with the additional signatures of a classifier.

    `classify` maps `image_bytes`, strings [N], to `labels`, strings [N], and `probabilities`, float32 [N, classes].
    `classify_embeddings` maps `embeddings`, float32 [N, d], to the same.

    Args:
        directory: Folder of the exported SavedModel.
        classifier: The linear classifier to add.
        target: Folder to create.
    """
    description = describe(directory)
    encoder = load_encoder(directory)
    embedder = ClassifyingEmbedder(encoder, description.image_size, classifier)
    _save(embedder, encoder, description.model_copy(update={"class_names": tuple(classifier.class_names)}), target)


def _save(embedder: Embedder, encoder: keras.Model, description: EncoderDescription, directory: str) -> None:
    signatures = {"serving_default": embedder.serve, "embed_pixels": embedder.embed_pixels}
    if isinstance(embedder, ClassifyingEmbedder):
        signatures |= {"classify": embedder.classify, _CLASSIFY_EMBEDDINGS: embedder.classify_embeddings}
    # Written under a temporary name, so that no reader sees an incomplete folder.
    unfinished = aside.beside(directory)
    tf.saved_model.save(embedder, unfinished, signatures=signatures)
    path = f"{unfinished}/{_DESCRIPTION}"
    tf.io.gfile.makedirs(path.rpartition("/")[0])
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(description.model_dump_json(indent=2))
    if description.settings.encoder.is_of_keras:
        with tf.io.gfile.GFile(f"{unfinished}/{_ARCHITECTURE}", "w") as file:
            file.write(network.to_json(encoder))
    if tf.io.gfile.exists(directory):
        # A previous attempt, which was interrupted before its caller took note of it.
        if tf.saved_model.contains_saved_model(directory):
            tf.io.gfile.remove(f"{directory}/{_LAST_FILE}")
        tf.io.gfile.rmtree(directory)
    if storage.in_bucket(directory):
        _move_file_by_file(unfinished, directory)
    else:
        tf.io.gfile.rename(unfinished, directory)


def _move_file_by_file(unfinished: str, directory: str) -> None:
    """Moves a SavedModel to where folders cannot be renamed in one step. The file that makes it a model comes last."""
    paths = [f"{folder}/{name}" for folder, _, names in tf.io.gfile.walk(unfinished) for name in names]
    for path in sorted(paths, key=lambda path: (path == f"{unfinished}/{_LAST_FILE}", path)):
        target = f"{directory}/{path.removeprefix(unfinished).lstrip('/')}"
        tf.io.gfile.makedirs(target.rpartition("/")[0])
        tf.io.gfile.rename(path, target)
    tf.io.gfile.rmtree(unfinished)


def load_weights(encoder: keras.Model, settings: TrainerSettings, size: tuple[int, int], directory: str) -> None:
    """Copies the weights of an exported encoder into `encoder`, for a warm start.

    Args:
        encoder: The encoder to change, built with `settings.encoder` under any strategy.
        settings: Settings of the training that starts.
        size: Height and width of the training's images.
        directory: Folder of a SavedModel that `export_encoder` wrote.

    Raises:
        SettingsError: If the folder has no exported encoder, or one of another architecture.
    """
    description = _description_to_start_from(directory)
    exported = description.settings.encoder
    # An encoder that averages takes images of any size; one with a dense layer on all positions does not.
    fixed = settings.encoder.pooling == "flatten" and encoder.input_shape[1] is not None
    if exported.architecture != settings.encoder.architecture or (fixed and description.image_size != tuple(size)):
        raise SettingsError(
            f"trainer.warm_start: the encoder in {directory} is {_summary(exported, description.image_size)}, and "
            f"this training needs {_summary(settings.encoder, size)}: set trainer.encoder and data.image_size to the "
            "same, or trainer.warm_start to null."
        )
    # The variables of a SavedModel are stored as a checkpoint of the saved object.
    checkpoint = tf.train.Checkpoint(_encoder=encoder)
    with _undamaged(directory):
        try:
            checkpoint.read(f"{directory}/variables/variables").assert_existing_objects_matched().expect_partial()
        except (ValueError, AssertionError) as error:
            # A ResNet, for instance, begins with another convolution for small images.
            raise SettingsError(
                f"trainer.warm_start: the weights of the encoder in {directory}, which was trained on "
                f"{description.image_size[0]}x{description.image_size[1]} pixels, do not fit the network for "
                f"{size[0]}x{size[1]} pixels: set data.image_size to the former, or trainer.warm_start to null."
            ) from error


def fingerprint(directory: str) -> str:
    """Returns a hash of the weights of an exported encoder.

    Raises:
        SettingsError: If the folder has no exported encoder.
    """
    _description_to_start_from(directory)
    # The index of a checkpoint contains the checksum of each variable.
    with _undamaged(directory), tf.io.gfile.GFile(f"{directory}/variables/variables.index", "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _description_to_start_from(directory: str) -> EncoderDescription:
    try:
        return describe(directory)
    except SettingsError as error:
        raise SettingsError(f"trainer.warm_start: {error} Or set trainer.warm_start to null.") from error


def _summary(settings: EncoderSettings, size) -> str:
    fields = ", ".join(f"{name} {value}" for name, value in settings.of_architecture.items())
    return f"({fields}, {size[0]}x{size[1]} pixels)"


def describe(directory: str) -> EncoderDescription:
    """Reads the description that was written beside the model in `directory`.

    Raises:
        SettingsError: If there is no description, or no complete model; if the description cannot be read, or has
            settings that this version does not know.
    """
    try:
        if not tf.saved_model.contains_saved_model(directory):
            raise tf.errors.NotFoundError(None, None, f"there is no {_LAST_FILE}")
        with tf.io.gfile.GFile(f"{directory}/{_DESCRIPTION}", "rb") as file:
            return EncoderDescription.model_validate_json(file.read())
    except _PASSING as error:
        raise _unreadable_now(directory, error) from error
    except (tf.errors.OpError, ValidationError) as error:
        raise SettingsError(
            f"{directory} has no encoder of nnclr ({_shortened(error)}): name the folder of an exported SavedModel."
        ) from error


def image_size(directory: str) -> tuple[int, int] | None:
    """Returns height and width of the images that the model in `directory` takes; None if no description tells it."""
    description = describe_if_any(directory)
    return description.image_size if description else None


def training_seconds(directory: str) -> float | None:
    """Returns the time that the training of the model in `directory` took; None if no description tells it."""
    description = describe_if_any(directory)
    return description.training.seconds or None if description and description.training else None


def describe_if_any(directory: str) -> EncoderDescription | None:
    """Returns the description beside the model in `directory`; None if nnclr did not export the model."""
    try:
        return describe(directory)
    except SettingsError:
        return None


def load_encoder(directory: str) -> keras.Model:
    """Loads the encoder of an exported SavedModel as a Keras model.

    Returns:
        A float32 model of images [N, height, width, 3] in [0, 1] to embeddings [N, d].

    Raises:
        SettingsError: If the SavedModel's weights do not fit its description.
    """
    description = describe(directory)
    encoder = untrained_encoder(directory)
    load_weights(encoder, description.settings, description.image_size, directory)
    return encoder


def untrained_encoder(directory: str) -> keras.Model:
    """Builds an encoder with random weights, which `keras.utils.set_random_seed` determines, like an exported one.

    Args:
        directory: Folder of the exported SavedModel that has the architecture.
    """
    description = describe(directory)
    with _undamaged(directory):
        if description.settings.encoder.is_of_keras:
            with tf.io.gfile.GFile(f"{directory}/{_ARCHITECTURE}") as file:
                return network.from_json(file.read())
        return build_encoder(description.settings.encoder.architecture, description.image_size)


def export_untrained_twin(directory: str, target: str, seed: int) -> None:
    """Exports an untrained encoder of the same architecture as an exported one.

    Args:
        directory: Folder of the exported SavedModel.
        target: Folder to create.
        seed: Seed of the random weights.
    """
    description = describe(directory)
    keras.utils.set_random_seed(seed)
    export_encoder(untrained_encoder(directory), description.settings, description.image_size, target)


class ModelSize(NamedTuple):
    """The size of a SavedModel.

    Attributes:
        parameters: Number of its variables' values.
        size_bytes: Bytes of its files.
    """

    parameters: int
    size_bytes: int


def size(directory: str) -> ModelSize:
    """Measures the SavedModel in `directory`."""
    with _undamaged(directory):
        reader = tf.train.load_checkpoint(f"{directory}/variables/variables")
        types = reader.get_variable_to_dtype_map()
        shapes = reader.get_variable_to_shape_map()
    # The structure of the saved objects is a string beside the variables.
    parameters = sum(int(np.prod(shape)) for name, shape in shapes.items() if types[name] != tf.string)
    files = [f"{folder}/{name}" for folder, _, names in tf.io.gfile.walk(directory) for name in names]
    return ModelSize(parameters, sum(tf.io.gfile.stat(file).length for file in files))


def batch_of(size: tuple[int, int]) -> int:
    """Returns the number of images of this height and width that `Embeddings` embeds at once."""
    return max(1, min(_MOST_AT_ONCE, _BATCH_BYTES // (3 * size[0] * size[1])))


def _signatures(directory: str) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """Returns the signatures of the SavedModel in `directory` by their names."""
    with _undamaged(directory):
        model = tf.saved_model.load(directory)
        names = list(model.signatures)
    # A signature does not keep the model alive, so the functions must.
    return {name: functools.partial(_called, model, name) for name in names}


def _called(model: Any, name: str, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
    return model.signatures[name](**inputs)


def _signature(directory: str, name: str) -> Callable[..., dict[str, tf.Tensor]]:
    with _undamaged(directory):
        return _signatures(directory)[name]


@contextmanager
def _undamaged(directory: str) -> Iterator[None]:
    """Turns errors about the files of a SavedModel into one sentence. A damaged byte leads TensorFlow to many kinds."""
    try:
        yield
    except _PASSING as error:
        raise _unreadable_now(directory, error) from error
    except (
        *(tf.errors.OpError, OSError, RuntimeError, LookupError),
        *(ValueError, TypeError, AttributeError, AssertionError),
    ) as error:
        raise SettingsError(
            f"The SavedModel in {directory} cannot be read ({_shortened(error)}): restore it, or export it again."
        ) from error


def _unreadable_now(directory: str, error: Exception) -> SettingsError:
    return SettingsError(
        f"The SavedModel in {directory} cannot be read now ({_shortened(error)}): try again, or check the credentials "
        "and the memory."
    )


def _shortened(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200].rstrip('. ')}"


class Embeddings:
    """Computes embeddings of pixels.

    Args:
        embed: Maps pixels, a uint8 tensor [n, h, w, 3], to embeddings, a float32 tensor [n, d].
    """

    def __init__(self, embed):
        self._embed = embed

    @classmethod
    def of_export(cls, directory: str) -> "Embeddings":
        """Returns the embeddings of the SavedModel in `directory`."""
        signature = _signature(directory, "embed_pixels")
        return cls(lambda pixels: signature(pixels=pixels)["embeddings"])

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Embeds pixels, uint8 [N, h, w, 3], in batches (see `batch_of`); returns float32 [N, d]."""
        batch = batch_of(pixels.shape[1:3])
        parts = [self._embed(tf.constant(pixels[i : i + batch])) for i in range(0, len(pixels), batch)]
        return np.concatenate([part.numpy() for part in parts])


def probabilities(directory: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns the classifier of the SavedModel in `directory`; None if it has none for embeddings.

    Returns:
        A function that maps embeddings, float32 [N, d], to the probabilities of the classes, float32 [N, classes].
    """
    signature = _signatures(directory).get(_CLASSIFY_EMBEDDINGS)
    if signature is None:
        return None
    return lambda embeddings: signature(embeddings=tf.constant(embeddings))["probabilities"].numpy()


def embed_encoded(directory: str, images: list[bytes]) -> np.ndarray:
    """Embeds encoded images (see `signatures.Embedder.serve`) with the SavedModel in `directory`: float32 [N, d]."""
    return _signature(directory, "serving_default")(image_bytes=tf.constant(images))["embeddings"].numpy()
