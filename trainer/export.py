"""The encoder as a SavedModel that takes images as they come: any size, encoded or decoded."""

import hashlib
import json
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.config import Encoder, TrainerSettings
from trainer.encoders import build_encoder
from trainer.errors import SettingsError

# TensorFlow Serving's place for a model's own files.
_DESCRIPTION = "assets.extra/nnclr.json"


class _Embedder(tf.Module):
    """Encoder with its preprocessing: shorter side resized to the training size, centre cropped, scaled to [0, 1]."""

    def __init__(self, encoder: keras.Model, size: tuple[int, int]):
        super().__init__(name="embedder")
        self._encoder, self._size = encoder, tuple(size)

    def _fit(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 [N, h, w, 3] of one size to float32 [N, height, width, 3] in [0, 255]."""
        height, width = self._size
        have = tf.cast(tf.shape(images)[1:3], tf.float32)
        scale = tf.reduce_max(tf.constant([height, width], tf.float32) / have)
        wanted = tf.maximum(tf.cast(tf.round(have * scale), tf.int32), [height, width])
        fitted = tf.cond(
            tf.reduce_all(wanted == tf.shape(images)[1:3]),
            lambda: tf.cast(images, tf.float32),
            lambda: tf.image.resize(images, wanted, antialias=True),
        )
        top, left = (wanted[0] - height) // 2, (wanted[1] - width) // 2
        cropped = fitted[:, top : top + height, left : left + width, :]
        return tf.ensure_shape(cropped, [None, height, width, 3])

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="pixels")])
    def embed_pixels(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """uint8 [N, h, w, 3] to `embeddings`, float32 [N, d]."""
        return {"embeddings": self._encoder(self._fit(pixels) / 255.0, training=False)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Encoded images (JPEG, PNG, BMP or GIF's first frame), strings [N], to `embeddings`, float32 [N, d]."""

        def decode(encoded):
            image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            return self._fit(image[tf.newaxis])[0]

        images = tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec([*self._size, 3], tf.float32))
        return {"embeddings": self._encoder(images / 255.0, training=False)}


def export_encoder(
    encoder: keras.Model, settings: TrainerSettings, size: tuple[int, int], directory: str, training: dict[str, Any]
) -> None:
    """Writes `encoder` as a SavedModel.

    Signatures: `serving_default` (`image_bytes`, strings [N]) and `embed_pixels` (`pixels`, uint8 [N, h, w, 3]); both
    give `embeddings`, float32 [N, d], the encoder's output before the projection head.

    Args:
        encoder: trained, under any strategy and precision; the export computes in float32 on one device.
        settings: that it was trained with, written beside it.
        size: height and width that it was trained at.
        directory: to create, local or `gs://`; its parent exists.
        training: figures of the training, written beside it.
    """
    plain = build_encoder(settings.encoder, size)
    plain.set_weights(encoder.get_weights())
    embedder = _Embedder(plain, size)
    signatures = {"serving_default": embedder.serve, "embed_pixels": embedder.embed_pixels}
    # Written aside: whoever finds the directory finds all of it.
    aside = f"{directory}.partial"
    if tf.io.gfile.exists(aside):
        tf.io.gfile.rmtree(aside)
    tf.saved_model.save(embedder, aside, signatures=signatures)
    path = f"{aside}/{_DESCRIPTION}"
    tf.io.gfile.makedirs(path.rpartition("/")[0])
    description = {"image_size": size, "settings": settings.model_dump(mode="json"), "training": training}
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(json.dumps(description, indent=2))
    tf.io.gfile.rename(aside, directory)


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
    theirs = Encoder.model_validate(description["settings"]["encoder"])
    # Averaging encoders take images of any size, but a dense layer on all positions does not.
    fixed = settings.encoder.pooling == "flatten" and encoder.input_shape[1] is not None
    if theirs != settings.encoder or (fixed and tuple(description["image_size"]) != tuple(size)):
        raise SettingsError(
            f"trainer.warm_start: the encoder in {directory} is {_summary(theirs, description['image_size'])}, and "
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


def _description_to_start_from(directory: str) -> dict[str, Any]:
    try:
        description = describe(directory)
        Encoder.model_validate(description["settings"]["encoder"])
    except (tf.errors.OpError, KeyError, TypeError, ValueError) as error:
        raise SettingsError(
            f"trainer.warm_start: {directory} holds no encoder of nnclr ({' '.join(str(error).split())[:200]}). "
            "Name the folder of an exported SavedModel, or set trainer.warm_start to null."
        ) from error
    return description


def _summary(settings: Encoder, size) -> str:
    fields = ", ".join(f"{name} {value}" for name, value in settings.model_dump(exclude_none=True).items())
    return f"({fields}, {size[0]}x{size[1]} pixels)"


def describe(directory: str) -> dict[str, Any]:
    """What `export_encoder` wrote beside the model: `image_size`, `settings`, `training`."""
    with tf.io.gfile.GFile(f"{directory}/{_DESCRIPTION}") as file:
        return json.load(file)


class Embeddings:
    """Computes embeddings of pixels: with an exported model, or with an untrained one of the same architecture."""

    def __init__(self, embed, batch: int = 256):
        self._embed, self._batch = embed, batch

    @classmethod
    def of_export(cls, directory: str) -> "Embeddings":
        """With the SavedModel in `directory`."""
        model = tf.saved_model.load(directory)
        signature = model.signatures["embed_pixels"]
        # The signature's function does not keep the model alive; this closure does.
        return cls(lambda pixels: (model, signature(pixels=pixels))[1]["embeddings"])

    @classmethod
    def of_untrained_twin(cls, directory: str, seed: int) -> "Embeddings":
        """With the architecture of the SavedModel in `directory` and fresh weights."""
        description = describe(directory)
        settings = TrainerSettings.model_validate(description["settings"])
        keras.utils.set_random_seed(seed)
        size = tuple(description["image_size"])
        twin = _Embedder(build_encoder(settings.encoder, size), size)
        return cls(lambda pixels: twin.embed_pixels(pixels)["embeddings"])

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [N, h, w, 3] to float32 [N, d], in batches."""
        parts = [self._embed(tf.constant(pixels[i : i + self._batch])) for i in range(0, len(pixels), self._batch)]
        return np.concatenate([part.numpy() for part in parts])
