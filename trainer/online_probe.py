"""The online probe: a linear classifier on embeddings, trained beside the encoder without influence on it."""

import keras
import tensorflow as tf

from trainer import replicas
from trainer.config import OnlineProbeSettings


class OnlineProbe(tf.Module):
    """A linear classifier and its optimiser.

    Args:
        settings: Settings of the probe.
        features: Length of an embedding.
        classes: Number of classes.
    """

    def __init__(self, settings: OnlineProbeSettings, features: int, classes: int):
        super().__init__(name="online_probe")
        head = keras.layers.Dense(classes, dtype="float32", name="online_probe")
        self.classifier = keras.Sequential([keras.Input((features,)), head], name="online_probe")
        self.optimizer = keras.optimizers.Adam(settings.learning_rate)
        self.optimizer.build(self.classifier.trainable_variables)

    def train(self, embeddings: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Makes one update from this replica's share of a global batch; runs in a replica context.

        Args:
            embeddings: float32 [m, features], which receive no gradient.
            labels: int [m].

        Returns:
            This replica's share of `p_loss` and `p_acc`: summed over the replicas, they are the global batch's means.
        """
        with tf.GradientTape() as tape:
            logits = self.classifier(embeddings)
            loss = replicas.global_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        variables = self.classifier.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        hits = tf.argmax(logits, axis=1, output_type=labels.dtype) == labels
        return {"p_loss": loss, "p_acc": replicas.global_mean(tf.cast(hits, tf.float32))}
