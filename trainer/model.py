"""The model of NNCLR (arXiv 2104.14548): encoder, heads, support set and online probe."""

import keras
import tensorflow as tf

from trainer import layerwise
from trainer.config import EncoderSettings, TrainerSettings
from trainer.encoders import build_encoder
from trainer.heads import prediction_head, projection_head
from trainer.momentum import MomentumEncoder
from trainer.online_probe import OnlineProbe
from trainer.support_set import SupportSet
from trainer.views import require_views_fit


class NNCLR(tf.Module):
    """Everything that a training learns, apart from its optimiser's state.

    Create it in the scope of the distribution strategy that trains it, after `keras.utils.set_random_seed`.

    Attributes:
        encoder: Maps float [N, height, width, 3] in [0, 1] to embeddings [N, features].
        projection: The projection head, [N, features] to [N, d].
        prediction: The prediction head, [N, d] to [N, d]; None if the loss needs none.
        momentum: The momentum encoder, which gives the keys; None if projections are the keys.
        exported: The encoder that the training measures and exports: `encoder`, or that of `momentum`.
        support_set: Recent projections of other images; None if the loss compares no neighbours.
        probe: The online probe; None if there are no labels.

    Args:
        settings: Settings of the trainer.
        size: Height and width of the images.
        classes: Number of classes of the online probe; 0 if there are no labels.
        dtype: Keras dtype policy of encoder and heads. Losses, softmax and support set always compute in float32.

    Raises:
        SettingsError: If the encoder cannot take views of the configured sizes.
    """

    def __init__(self, settings: TrainerSettings, size: tuple[int, int], classes: int, dtype: str):
        super().__init__(name="nnclr")
        self.encoder = _trained_encoder(settings.encoder, size, dtype)
        require_views_fit(settings, self.encoder, size)
        features, width = self.encoder.output_shape[-1], settings.projection.units[-1]
        self.projection = projection_head(features, settings.projection, dtype)
        self.prediction = prediction_head(settings.prediction, width, dtype) if settings.neighbour == "paper" else None
        self.momentum = self._momentum_encoder(settings, size, dtype)
        self.exported = self.encoder
        if self.momentum is not None and settings.momentum_encoder.export == "momentum":
            self.exported = self.momentum.encoder
        self.support_set = (
            SupportSet(settings.support_set_size, width, settings.seed) if settings.neighbour != "none" else None
        )
        self.probe = OnlineProbe(settings.online_probe, features, classes) if classes else None
        # Only the encoder, because XLA cannot compile the resampling of the augmentation. See devices.default_strategy.
        self._encode = tf.function(self.encoder, jit_compile=True) if settings.xla else self.encoder

    def _momentum_encoder(self, settings: TrainerSettings, size: tuple[int, int], dtype: str) -> MomentumEncoder | None:
        momentum = settings.momentum_encoder.momentum
        if momentum is None:
            return None
        encoder = _trained_encoder(settings.encoder, size, dtype)
        projection = projection_head(encoder.output_shape[-1], settings.projection, dtype)
        return MomentumEncoder([self.encoder, self.projection], [encoder, projection], momentum)

    @property
    def networks(self) -> list[keras.Model]:
        """Encoder and heads."""
        return [network for network in (self.encoder, self.projection, self.prediction) if network is not None]

    @property
    def pretrained_variables(self) -> list[keras.Variable]:
        """The weights of encoder and heads that gradients change."""
        return [variable for network in self.networks for variable in network.trainable_variables]

    def project(self, views: tf.Tensor) -> tf.Tensor:
        """Projects views while training: float32 [N, height, width, 3] to float32 [N, d], not normalised."""
        return tf.cast(self.projection(self._encode(views, training=True), training=True), tf.float32)

    def keys(self, views: tf.Tensor, projections: tf.Tensor) -> tf.Tensor:
        """Returns the vectors whose neighbours are searched and which the support set collects, without gradient.

        Args:
            views: The views, float32 [N, height, width, 3] in [0, 1].
            projections: Their L2-normalised projections, float32 [N, d].

        Returns:
            L2-normalised float32 [N, d]: the momentum encoder's projections of the views, or, without a momentum
            encoder, the given ones.
        """
        if self.momentum is None:
            return tf.stop_gradient(projections)
        return normalised(self.momentum.project(views))

    def predict(self, projections: tf.Tensor) -> tf.Tensor:
        """Predicts from the projections of several views while training.

        The views are one batch for the head's batch norm. As in the paper's algorithm 1, the head's input is not
        normalised.

        Args:
            projections: Projections of each view, not normalised, float32 [views, n, d].

        Returns:
            L2-normalised predictions, float32 [views, n, d].
        """
        assert self.prediction is not None
        width = projections.shape[-1]
        predictions = self.prediction(tf.reshape(projections, [-1, width]), training=True)
        return tf.reshape(normalised(predictions), [projections.shape[0], -1, width])

    @tf.function(reduce_retracing=True)
    def infer(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Embeds images without augmentation.

        Args:
            images: uint8 [N, height, width, 3].

        Returns:
            `embedding`, float32 [N, features]; `projection`, L2-normalised float32 [N, d]; and, if there is an online
            probe, `logits`, float32 [N, classes].
        """
        features = self.exported(tf.cast(images, tf.float32) / 255.0, training=False)
        outputs = {
            "embedding": tf.cast(features, tf.float32),
            "projection": normalised(self.projection(features, training=False)),
        }
        if self.probe is not None:
            outputs["logits"] = self.probe.classifier(outputs["embedding"])
        return outputs


def _trained_encoder(settings: EncoderSettings, size: tuple[int, int], dtype: str) -> keras.Model:
    """Builds the encoder and lets it keep what it is to keep of its start."""
    encoder = build_encoder(settings, size, dtype)
    layerwise.freeze(encoder, settings.frozen)
    if settings.keeps_statistics:
        layerwise.keep_statistics(encoder)
    return encoder


def normalised(vectors: tf.Tensor) -> tf.Tensor:
    """Divides vectors, [..., d], by their L2 norm; returns float32."""
    return tf.math.l2_normalize(tf.cast(vectors, tf.float32), axis=-1)
