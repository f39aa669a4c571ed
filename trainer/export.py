"""The encoder as a SavedModel."""

import hashlib

import keras
import numpy as np
import tensorflow as tf

from trainer import aside
from trainer.config import EncoderSettings, TrainerSettings
from trainer.encoders import build_encoder
from trainer.errors import SettingsError
from trainer.results import EncoderDescription, TrainingFigures
from trainer.signatures import Classifier, ClassifyingEmbedder, Embedder

# TensorFlow Serving's place for a model's own files.
_DESCRIPTION = "assets.extra/nnclr.json"


def export_encoder(
    encoder: keras.Model,
    settings: TrainerSettings,
    size: tuple[int, int],
    directory: str,
    training: TrainingFigures | None = None,
) -> None:
    """Writes `encoder` as a SavedModel.

    Signatures: `serving_default` (`image_bytes`, strings [N]) and `embed_pixels` (`pixels`, uint8 [N, h, w, 3]); both
    give `embeddings`, float32 [N, d], the encoder's output before the projection head.

    Args:
        encoder: trained, under any strategy and precision; the export computes in float32 on one device.
        settings: that it was trained with, written beside it.
        size: height and width that it was trained at.
        directory: to create, local or `gs://`; its parent exists.
        training: Figures of the training, written beside the encoder; None if it is untrained.
    """
    plain = build_encoder(settings.encoder, size)
    plain.set_weights(encoder.get_weights())
    _save(Embedder(plain, size), EncoderDescription(image_size=size, settings=settings, training=training), directory)


def export_with_classifier(directory: str, classifier: Classifier, target: str) -> None:
    """Exports the encoder in the SavedModel `directory` once more, to `target`, with the signature `classify`.

    `classify` takes `image_bytes`, strings [N], to `labels`, strings [N], and `probabilities`, float32 [N, classes].
    """
    description = describe(directory)
    embedder = ClassifyingEmbedder(rebuilt(directory), description.image_size, classifier)
    _save(embedder, description.model_copy(update={"class_names": tuple(classifier.class_names)}), target)


def _save(embedder: Embedder, description: EncoderDescription, directory: str) -> None:
    signatures = {"serving_default": embedder.serve, "embed_pixels": embedder.embed_pixels}
    if isinstance(embedder, ClassifyingEmbedder):
        signatures["classify"] = embedder.classify
    # Written aside: whoever finds the directory finds all of it.
    unfinished = aside.beside(directory)
    tf.saved_model.save(embedder, unfinished, signatures=signatures)
    path = f"{unfinished}/{_DESCRIPTION}"
    tf.io.gfile.makedirs(path.rpartition("/")[0])
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(description.model_dump_json(indent=2))
    if tf.io.gfile.exists(directory):
        # Of a try before this one, which did not come to its end.
        tf.io.gfile.rmtree(directory)
    tf.io.gfile.rename(unfinished, directory)


def load_weights(encoder: keras.Model, settings: TrainerSettings, size: tuple[int, int], directory: str) -> None:
    """Gives `encoder` the weights of an exported one, for a warm start.

    Args:
        encoder: built with `settings.encoder`, under any strategy.
        settings: of the training that begins.
        size: height and width of its images.
        directory: what `export_encoder` wrote.

    Raises:
        SettingsError: there is no exported encoder, or it has another architecture.
    """
    description = _description_to_start_from(directory)
    theirs = description.settings.encoder
    # Averaging encoders take images of any size, but a dense layer on all positions does not.
    fixed = settings.encoder.pooling == "flatten" and encoder.input_shape[1] is not None
    if theirs != settings.encoder or (fixed and description.image_size != tuple(size)):
        raise SettingsError(
            f"trainer.warm_start: the encoder in {directory} is {_summary(theirs, description.image_size)}, and "
            f"this training wants {_summary(settings.encoder, size)}: set trainer.encoder and data.image_size to the "
            "same, or trainer.warm_start to null."
        )
    # A SavedModel's variables are a checkpoint of the saved object.
    checkpoint = tf.train.Checkpoint(_encoder=encoder)
    checkpoint.read(f"{directory}/variables/variables").assert_existing_objects_matched().expect_partial()


def fingerprint(directory: str) -> str:
    """Of the weights in an exported encoder.

    Raises:
        SettingsError: there is no exported encoder.
    """
    _description_to_start_from(directory)
    # The index of a checkpoint has the checksum of each variable.
    with tf.io.gfile.GFile(f"{directory}/variables/variables.index", "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _description_to_start_from(directory: str) -> EncoderDescription:
    try:
        return describe(directory)
    except (tf.errors.OpError, ValueError) as error:
        raise SettingsError(
            f"trainer.warm_start: {directory} holds no encoder of nnclr ({' '.join(str(error).split())[:200]}). "
            "Name the folder of an exported SavedModel, or set trainer.warm_start to null."
        ) from error


def _summary(settings: EncoderSettings, size) -> str:
    fields = ", ".join(f"{name} {value}" for name, value in settings.model_dump(exclude_none=True).items())
    return f"({fields}, {size[0]}x{size[1]} pixels)"


def describe(directory: str) -> EncoderDescription:
    """Reads the description that was written beside the model in `directory`.

    Raises:
        tf.errors.NotFoundError: If there is no description.
        pydantic.ValidationError: If the description cannot be read, or has settings that this version does not know.
    """
    with tf.io.gfile.GFile(f"{directory}/{_DESCRIPTION}") as file:
        return EncoderDescription.model_validate_json(file.read())


def rebuilt(directory: str) -> keras.Model:
    """The encoder in an exported SavedModel, as a Keras model in float32: images in [0, 1] to embeddings."""
    description = describe(directory)
    encoder = build_encoder(description.settings.encoder, description.image_size)
    load_weights(encoder, description.settings, description.image_size, directory)
    return encoder


def export_untrained_twin(directory: str, target: str, seed: int) -> None:
    """Exports an encoder of the same architecture as the SavedModel in `directory`, with fresh weights, to `target`."""
    description = describe(directory)
    keras.utils.set_random_seed(seed)
    encoder = build_encoder(description.settings.encoder, description.image_size)
    export_encoder(encoder, description.settings, description.image_size, target)


class Embeddings:
    """Computes embeddings of pixels with an exported model."""

    def __init__(self, embed, batch: int = 256):
        self._embed, self._batch = embed, batch

    @classmethod
    def of_export(cls, directory: str) -> "Embeddings":
        """With the SavedModel in `directory`."""
        model = tf.saved_model.load(directory)
        signature = model.signatures["embed_pixels"]
        # The signature's function does not keep the model alive; this closure does.
        return cls(lambda pixels: (model, signature(pixels=pixels))[1]["embeddings"])

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [N, h, w, 3] to float32 [N, d], in batches."""
        parts = [self._embed(tf.constant(pixels[i : i + self._batch])) for i in range(0, len(pixels), self._batch)]
        return np.concatenate([part.numpy() for part in parts])


def embed_encoded(directory: str, images: list[bytes]) -> np.ndarray:
    """Embeds encoded images with the SavedModel in `directory`: float32 [N, d]."""
    model = tf.saved_model.load(directory)
    return model.signatures["serving_default"](image_bytes=tf.constant(images))["embeddings"].numpy()
