"""The signatures of an exported model, which map images of any size, encoded or decoded, to embeddings and classes."""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from trainer import fitting, picture_files


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
        self._encoder, self._size = encoder, (size[0], size[1])

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="pixels")])
    def embed_pixels(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Maps pixels, uint8 [N, h, w, 3], to `embeddings`, float32 [N, d]."""
        return {"embeddings": self._encoder(fitting.fit(pixels, self._size) / 255.0, training=False)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Maps encoded images, strings [N], to `embeddings`, float32 [N, d].

        They are files that `picture_files.decode` decodes.
        """

        def fitted(encoded):
            return fitting.fit(picture_files.decode(encoded)[tf.newaxis], self._size)[0]

        images = tf.map_fn(fitted, image_bytes, fn_output_signature=tf.TensorSpec([*self._size, 3], tf.float32))
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
        return self.classify_embeddings(self.serve(image_bytes)["embeddings"])

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="embeddings")])
    def classify_embeddings(self, embeddings: tf.Tensor) -> dict[str, tf.Tensor]:
        """Maps embeddings, float32 [N, d], to the same as `classify`."""
        logits = embeddings @ self._weights + self._bias
        return {
            "labels": tf.gather(self._class_names, tf.argmax(logits, -1)),
            "probabilities": tf.nn.softmax(logits),
        }
