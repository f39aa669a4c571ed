"""NNCLR (arXiv 2104.14548) as the Keras example has it: the model, its state, and one step of training."""

import keras
import tensorflow as tf

from trainer import augmentation, losses
from trainer.config import TrainerSettings
from trainer.encoders import build_encoder
from trainer.heads import projection_head
from trainer.support_set import SupportSet

_FIRST_VIEW, _SECOND_VIEW, _PROBE_VIEW = range(3)


class NNCLR(tf.Module):
    """Encoder, projection head, support set, online probe and their optimisers.

    Build it in the scope of the distribution strategy that runs `train_step`, after `keras.utils.set_random_seed`.

    Args:
        settings: the trainer's.
        size: height and width of the images.
        classes: of the online probe; 0 where there are no labels.
        dtype: Keras dtype policy of encoder and head. Losses, softmax and support set are float32 whatever it is.
    """

    def __init__(self, settings: TrainerSettings, size: tuple[int, int], classes: int, dtype: str):
        super().__init__(name="nnclr")
        self.settings = settings
        self.encoder = build_encoder(settings.encoder, size, dtype)
        features = self.encoder.output_shape[-1]
        self.projection = projection_head(features, settings.projection, dtype)
        self.support_set = SupportSet(settings.support_set_size, settings.projection[-1], settings.seed)
        self.optimizer = keras.optimizers.Adam(settings.learning_rate)
        self.optimizer.build(self._pretrained)
        self.probe: keras.Model | None = None
        if classes:
            head = keras.layers.Dense(classes, dtype="float32", name="online_probe")
            self.probe = keras.Sequential([keras.Input((features,)), head], name="online_probe")
            self.probe_optimizer = keras.optimizers.Adam(settings.online_probe.learning_rate)
            self.probe_optimizer.build(self.probe.trainable_variables)

    @property
    def _pretrained(self) -> list[keras.Variable]:
        return self.encoder.trainable_variables + self.projection.trainable_variables

    def train_step(self, unlabelled: dict, labelled: dict | None, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """One update from this replica's share of a global batch; runs in a replica context.

        Args:
            unlabelled: `image`, uint8 [n, height, width, 3].
            labelled: `image` likewise, m rows, and `label`, int [m]; None without labels.
            step: scalar integer; with the seed it decides every random draw.

        Returns:
            This replica's share of each metric: summed over replicas they are the global batch's means.
        """
        metrics = self._pretrain(unlabelled["image"], step)
        if labelled is not None:
            metrics |= self._train_probe(labelled["image"], labelled["label"], step)
        return metrics

    def _views(self, images: tf.Tensor, stream: int, step: tf.Tensor, settings) -> tf.Tensor:
        """One random view of each local image, drawn as rows of the global batch's numbers."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        numbers = augmentation.uniform_numbers(self.settings.seed, stream, step, tf.shape(images)[0] * replicas)
        return augmentation.random_views(images, tf.gather(numbers, losses.local_targets(images)), settings)

    def _project(self, views: tf.Tensor) -> tf.Tensor:
        features = self.encoder(views, training=True)
        return tf.math.l2_normalize(tf.cast(self.projection(features, training=True), tf.float32), axis=1)

    def _pretrain(self, images: tf.Tensor, step: tf.Tensor) -> dict[str, tf.Tensor]:
        strength = self.settings.augmentation
        # Both views in one pass: one encoder call and one neighbour search of twice the rows.
        views = tf.concat([self._views(images, view, step, strength) for view in (_FIRST_VIEW, _SECOND_VIEW)], axis=0)
        with tf.GradientTape() as tape:
            both = self._project(views)
            # The straight-through neighbour: its value is the neighbour's, its gradient the projection's.
            neighbours = both + tf.stop_gradient(self.support_set.nearest(both) - both)
            projections, neighbours = losses.gather(tf.split(both, 2), tf.split(neighbours, 2))
            per_sample = losses.nnclr_loss(neighbours, projections, self.settings.temperature)
            # Divided by the global batch: the optimiser sums the replicas' gradients.
            loss = self._global_mean(per_sample)
        gradients = tape.gradient(loss, self._pretrained)
        self.optimizer.apply(gradients, self._pretrained)
        self.support_set.enqueue(projections.all_first)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return {
            "c_loss": loss,
            "c_acc": self._global_mean(losses.contrastive_accuracy(projections)),
            "r_acc": losses.correlation_accuracy(projections) / replicas,
        }

    def _train_probe(self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> dict[str, tf.Tensor]:
        assert self.probe is not None
        views = self._views(images, _PROBE_VIEW, step, self.settings.online_probe.augmentation)
        # Outside the tape and at inference: labelled images leave no trace in the encoder, not even in statistics.
        features = tf.cast(self.encoder(views, training=False), tf.float32)
        with tf.GradientTape() as tape:
            logits = self.probe(features)
            loss = self._global_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        variables = self.probe.trainable_variables
        self.probe_optimizer.apply(tape.gradient(loss, variables), variables)
        hits = tf.argmax(logits, axis=1, output_type=labels.dtype) == labels
        return {"p_loss": loss, "p_acc": self._global_mean(tf.cast(hits, tf.float32))}

    @staticmethod
    def _global_mean(per_sample: tf.Tensor) -> tf.Tensor:
        """This replica's share of the global batch's mean."""
        rows = tf.shape(per_sample)[0] * tf.distribute.get_strategy().num_replicas_in_sync
        return tf.reduce_sum(per_sample) / tf.cast(rows, per_sample.dtype)

    @tf.function(reduce_retracing=True)
    def validate_probe(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The online probe on images as they are: summed cross-entropy and number of hits, scalars."""
        assert self.probe is not None
        features = tf.cast(self.encoder(tf.cast(images, tf.float32) / 255.0, training=False), tf.float32)
        logits = self.probe(features)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        return loss, tf.reduce_sum(tf.cast(tf.argmax(logits, axis=1, output_type=labels.dtype) == labels, tf.float32))
