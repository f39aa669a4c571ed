"""NNCLR (arXiv 2104.14548): the model, its state, and one step of training.

The two random views of each image are encoded and projected to L2-normalised vectors z. NN(z) is the nearest
neighbour of z in the support set. The setting `neighbour` chooses the loss that compares them: see `trainer.losses`.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from trainer import augmentation, losses
from trainer.config import TrainerSettings
from trainer.encoders import build_encoder
from trainer.errors import SettingsError
from trainer.heads import prediction_head, projection_head
from trainer.optimizers import build_optimizer, learning_rate
from trainer.plan import Plan
from trainer.support_set import SupportSet

# What random numbers are for; streams from _LOCAL_VIEWS on are those of the small views.
_FIRST_VIEW, _SECOND_VIEW, _PROBE_VIEW, _NEIGHBOUR, _LOCAL_VIEWS = range(5)


class NNCLR(tf.Module):
    """Encoder, heads, support set, online probe and their optimisers.

    Build it in the scope of the distribution strategy that runs `train_step`, after `keras.utils.set_random_seed`.

    Args:
        settings: the trainer's.
        plan: how long the training is.
        size: height and width of the images.
        classes: of the online probe; 0 where there are no labels.
        dtype: Keras dtype policy of encoder and heads. Losses, softmax and support set are float32 whatever it is.
    """

    def __init__(self, settings: TrainerSettings, plan: Plan, size: tuple[int, int], classes: int, dtype: str):
        super().__init__(name="nnclr")
        self.settings, self.size, self._plan = settings, size, plan
        self.encoder = build_encoder(settings.encoder, size, dtype)
        self._require_views_fit()
        features, width = self.encoder.output_shape[-1], settings.projection.units[-1]
        self.projection = projection_head(features, settings.projection, dtype)
        self.prediction = prediction_head(settings.prediction, width, dtype) if settings.neighbour == "paper" else None
        self._loss = losses.loss_function(settings.neighbour)
        self.support_set = SupportSet(settings.support_set_size, width, settings.seed)
        #: The learning rate of the update that follows so many others.
        self.learning_rate = learning_rate(settings.optimizer, settings.batch_size, plan.steps, plan.warmup)
        self.optimizer = build_optimizer(settings.optimizer, self.learning_rate, self._pretrained)
        self.probe: keras.Model | None = None
        if classes:
            head = keras.layers.Dense(classes, dtype="float32", name="online_probe")
            self.probe = keras.Sequential([keras.Input((features,)), head], name="online_probe")
            self.probe_optimizer = keras.optimizers.Adam(settings.online_probe.learning_rate)
            self.probe_optimizer.build(self.probe.trainable_variables)
        # Only the encoder: XLA cannot compile the augmentations' resampling. See devices.default_strategy.
        self._encode = tf.function(self.encoder, jit_compile=True) if settings.xla else self.encoder

    def _require_views_fit(self) -> None:
        for name, share in (
            ("multi_crop.size", self.settings.multi_crop.size if self.settings.multi_crop.views else 1.0),
            ("progressive_resizing.size", self.settings.progressive_resizing.size),
        ):
            height, width = _scaled(self.size, share)
            try:
                self.encoder.compute_output_shape((None, height, width, 3))
            except ValueError as error:
                raise SettingsError(
                    f"trainer.{name} is {share}, and views of {height}x{width} pixels are too small for the encoder "
                    f"{self.settings.encoder.name}: make it larger."
                ) from error

    @property
    def _networks(self) -> list[keras.Model]:
        return [network for network in (self.encoder, self.projection, self.prediction) if network is not None]

    @property
    def _pretrained(self) -> list[keras.Variable]:
        return [variable for network in self._networks for variable in network.trainable_variables]

    def state(self) -> dict[str, tf.Variable]:
        """Everything that training changes, by a name that is the same in every process."""
        parts = {network.name: network.variables for network in self._networks}
        parts["optimizer"] = self.optimizer.variables
        if self.probe is not None:
            parts |= {"online_probe": self.probe.variables, "probe_optimizer": self.probe_optimizer.variables}
        state = {
            f"{part}/{i:04d}-{variable.name}": variable.value
            for part, variables in parts.items()
            for i, variable in enumerate(variables)
        }
        return state | {
            "support_set/members": self.support_set.members,
            "support_set/pointer": self.support_set.pointer,
        }

    def view_size(self, step: int) -> tuple[int, int]:
        """Height and width of the two views in the update that follows so many others."""
        return (
            self.size if step >= self._plan.small_views else _scaled(self.size, self.settings.progressive_resizing.size)
        )

    def train_step(
        self, unlabelled: dict, labelled: dict | None, step: tf.Tensor, size: tuple[int, int] | None = None
    ) -> dict[str, tf.Tensor]:
        """One update from this replica's share of a global batch; runs in a replica context.

        Args:
            unlabelled: `image`, uint8 [n, height, width, 3].
            labelled: `image` likewise, m rows, and `label`, int [m]; None without labels.
            step: scalar integer; with the seed it decides every random draw.
            size: height and width of the two views, by default those of the images: see `view_size`.

        Returns:
            This replica's share of each metric: summed over replicas they are the global batch's means.
        """
        metrics = self._pretrain(unlabelled["image"], step, size)
        if labelled is not None:
            metrics |= self._train_probe(labelled["image"], labelled["label"], step)
        return metrics

    def _numbers(self, stream: int, step: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Random numbers of this replica's `rows`, int [n], which are rows of the global batch's numbers."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        total = tf.shape(rows)[0] * replicas
        return tf.gather(augmentation.uniform_numbers(self.settings.seed, stream, step, total), rows)

    def _pretrain(self, images: tf.Tensor, step: tf.Tensor, size: tuple[int, int] | None) -> dict[str, tf.Tensor]:
        parts = self.settings.accumulate
        rows = losses.global_rows(images)
        streams = range(_LOCAL_VIEWS + self.settings.multi_crop.views)
        numbers = {stream: self._numbers(stream, step, rows) for stream in streams if stream != _PROBE_VIEW}
        gradients: list[tf.Tensor] = []
        metrics: dict[str, tf.Tensor] = {}
        for part in range(parts):
            # Every parts-th row: the same images make up a part however many devices share the batch.
            chosen = {stream: drawn[part::parts] for stream, drawn in numbers.items()}
            found, shares = self._gradients(images[part::parts], chosen, size)
            gradients = [a + b for a, b in zip(gradients, found, strict=True)] if gradients else found
            for name, share in shares.items():
                metrics[name] = metrics.get(name, 0.0) + share / parts
        norm = self._update([gradient / parts for gradient in gradients])
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return metrics | {"gradient_norm": norm / replicas}

    def _gradients(
        self, images: tf.Tensor, numbers: dict[int, tf.Tensor], size: tuple[int, int] | None
    ) -> tuple[list, dict[str, tf.Tensor]]:
        """Gradients of this replica's share of the loss, and its share of the metrics; fills the support set."""
        settings = self.settings
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        # Both views in one pass: one resampling, one encoder call and one neighbour search of twice the rows.
        drawn = [numbers[_FIRST_VIEW], numbers[_SECOND_VIEW]]
        views = augmentation.random_views(images, drawn, settings.augmentation, size)
        with tf.GradientTape() as tape:
            both = self._project(views)
            nearest = self.support_set.nearest(
                both, settings.top_k, tf.tile(numbers[_NEIGHBOUR][:, 0], [2]) if settings.top_k > 1 else None
            )
            z = [*tf.split(both, 2), *self._project_small_views(images, numbers)]
            per_image = self._loss(z, tf.split(nearest.vectors, 2), self._predict, settings.temperature)
            loss = _global_mean(per_image)
        gradients = tape.gradient(loss, self._pretrained)
        projections = losses.gather(*z[:2])
        self.support_set.enqueue(projections[0].everywhere)
        batch = settings.batch_size / settings.accumulate
        return gradients, {
            "c_loss": loss,
            "c_acc": _global_mean(losses.contrastive_accuracy(*projections)),
            "r_acc": losses.correlation_accuracy(*projections) / replicas,
            "projection_std": losses.projection_std(projections[0]) / replicas,
            "support_set_age": _global_mean(nearest.ages) / batch,
        }

    def _project(self, views: tf.Tensor) -> tf.Tensor:
        features = self._encode(views, training=True)
        return _normalised(self.projection(features, training=True))

    def _project_small_views(self, images: tf.Tensor, numbers: dict[int, tf.Tensor]) -> list[tf.Tensor]:
        crop = self.settings.multi_crop
        if not crop.views:
            return []
        strength = self.settings.augmentation.model_copy(update={"crop_scale": crop.scale})
        drawn = [numbers[_LOCAL_VIEWS + i] for i in range(crop.views)]
        views = augmentation.random_views(images, drawn, strength, _scaled(self.size, crop.size))
        return tf.split(self._project(views), crop.views)

    def _predict(self, projections: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """All views at once, as the batch of the prediction head's batch norm."""
        assert self.prediction is not None
        predictions = self.prediction(tf.concat(projections, axis=0), training=True)
        return tf.split(_normalised(predictions), len(projections))

    def _update(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        """Sums the replicas' gradients, clips and applies them; returns their length before clipping, a scalar.

        Summed here and not by the optimiser, which would clip each replica's share instead of the whole.
        """
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        norm = tf.linalg.global_norm(gradients)
        clip = self.settings.optimizer.clip_norm
        if clip is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, clip, use_norm=norm)
        self.optimizer.apply(gradients, self._pretrained)
        return norm

    def _train_probe(self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> dict[str, tf.Tensor]:
        assert self.probe is not None
        numbers = self._numbers(_PROBE_VIEW, step, losses.global_rows(images))
        views = augmentation.random_views(images, [numbers], self.settings.online_probe.augmentation)
        # Outside the tape and at inference: labelled images leave no trace in the encoder, not even in statistics.
        features = tf.cast(self.encoder(views, training=False), tf.float32)
        with tf.GradientTape() as tape:
            logits = self.probe(features)
            loss = _global_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        variables = self.probe.trainable_variables
        self.probe_optimizer.apply(tape.gradient(loss, variables), variables)
        hits = tf.argmax(logits, axis=1, output_type=labels.dtype) == labels
        return {"p_loss": loss, "p_acc": _global_mean(tf.cast(hits, tf.float32))}

    @tf.function(reduce_retracing=True)
    def look(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the model makes of images as they are, at inference.

        Args:
            images: uint8 [N, height, width, 3].

        Returns:
            `embedding` float32 [N, features], `projection` float32 [N, d] normalised, and `logits` float32
            [N, classes] where there is an online probe.
        """
        features = self.encoder(tf.cast(images, tf.float32) / 255.0, training=False)
        seen = {
            "embedding": tf.cast(features, tf.float32),
            "projection": _normalised(self.projection(features, training=False)),
        }
        if self.probe is not None:
            seen["logits"] = self.probe(seen["embedding"])
        return seen


def _scaled(size: tuple[int, int], share: float) -> tuple[int, int]:
    height, width = (max(round(length * share), 1) for length in size)
    return height, width


def _normalised(rows: tf.Tensor) -> tf.Tensor:
    return tf.math.l2_normalize(tf.cast(rows, tf.float32), axis=1)


def _global_mean(per_sample: tf.Tensor) -> tf.Tensor:
    """This replica's share of the global batch's mean: summed over the replicas, shares are the mean."""
    rows = tf.shape(per_sample)[0] * tf.distribute.get_strategy().num_replicas_in_sync
    return tf.reduce_sum(per_sample) / tf.cast(rows, per_sample.dtype)
