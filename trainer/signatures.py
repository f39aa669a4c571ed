"""The signatures of an exported model, which map images of any size, encoded or decoded, to embeddings and classes."""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Classifier:
    """A linear classifier on embeddings.

    Attributes:
        weights: float32 [d, classes].
        bias: float32 [classes].
        class_names: Names of the classes.
    """

    weights: np.ndarray
    bias: np.ndarray
    class_names: list[str]


class Embedder(tf.Module):
    """An encoder with its preprocessing: resizes to the training size, crops the centre and scales to [0, 1].

    Args:
        encoder: Maps float32 images [N, height, width, 3] in [0, 1] to embeddings [N, d].
        size: Height and width of the images that the encoder was trained on.
    """

    def __init__(self, encoder: keras.Model, size: tuple[int, int]):
        super().__init__(name="embedder")
        self._encoder, self._size = encoder, tuple(size)

    def _fit(self, images: tf.Tensor) -> tf.Tensor:
        """Resizes and crops images of one size, uint8 [N, h, w, 3], to float32 [N, height, width, 3] in [0, 255]."""
        height, width = self._size
        # As ingest does: the far ends of an extremely long image would take gigabytes when it is enlarged.
        longest = 4 * tf.reduce_min(tf.shape(images)[1:3])
        top, left = (tf.maximum(tf.shape(images)[axis] - longest, 0) // 2 for axis in (1, 2))
        images = images[:, top : top + longest, left : left + longest, :]
        actual = tf.cast(tf.shape(images)[1:3], tf.float32)
        scale = tf.reduce_max(tf.constant([height, width], tf.float32) / actual)
        wanted = tf.maximum(tf.cast(tf.round(actual * scale), tf.int32), [height, width])
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
        """Maps pixels, uint8 [N, h, w, 3], to `embeddings`, float32 [N, d]."""
        return {"embeddings": self._encoder(self._fit(pixels) / 255.0, training=False)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Maps encoded images (JPEG, PNG, BMP or a GIF's first frame), strings [N], to `embeddings`, float32 [N, d]."""

        def decode(encoded):
            image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            return self._fit(image[tf.newaxis])[0]

        images = tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec([*self._size, 3], tf.float32))
        return {"embeddings": self._encoder(images / 255.0, training=False)}


class ClassifyingEmbedder(Embedder):
    """An embedder with a linear classifier on top.

    Args:
        encoder: See `Embedder`.
        size: See `Embedder`.
        classifier: The linear classifier.
    """

    def __init__(self, encoder: keras.Model, size: tuple[int, int], classifier: Classifier):
        super().__init__(encoder, size)
        self._weights, self._bias = classifier.weights, classifier.bias
        self._class_names = np.array(classifier.class_names)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def classify(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Maps encoded images, strings [N], to `labels`, strings [N], and `probabilities`, float32 [N, classes]."""
        logits = self.serve(image_bytes)["embeddings"] @ self._weights + self._bias
        return {
            "labels": tf.gather(self._class_names, tf.argmax(logits, -1)),
            "probabilities": tf.nn.softmax(logits),
        }
