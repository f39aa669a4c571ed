"""One step of training: augmentation, loss, support set, weight update and online probe."""

import tensorflow as tf

from trainer import augmentation, layerwise, losses, replicas
from trainer.augmentation import StoredImages
from trainer.config import TrainerSettings
from trainer.model import NNCLR, normalised
from trainer.optimizers import LearningRate, build_optimizer
from trainer.plan import Plan
from trainer.support_set import Neighbours
from trainer.views import small_view_size

# The streams of random numbers. Each small view has a stream of its own, from _SMALL_VIEWS on.
_FIRST_VIEW, _SECOND_VIEW, _PROBE_VIEW, _NEIGHBOUR, _SMALL_VIEWS = range(5)


class TrainingStep(tf.Module):
    """Updates a model from this replica's share of a global batch.

    Create it in the scope of the distribution strategy that trains the model, and call it in a replica context.

    Attributes:
        optimizer: The optimiser of encoder and heads.
        learning_rate: The learning rate of the update after a number of steps.

    Args:
        model: The model to train.
        settings: Settings of the trainer.
        plan: Length of the training and of its warm-up.
        size: Height and width of the images that the encoder is trained on.
    """

    def __init__(self, model: NNCLR, settings: TrainerSettings, plan: Plan, size: tuple[int, int]):
        super().__init__(name="training_step")
        self._model, self._settings, self._size = model, settings, size
        self._small_view_size = small_view_size(settings, size)
        self._loss = losses.loss_function(settings.neighbour)
        self.learning_rate = LearningRate(settings.optimizer, settings.batch_size, plan.steps, plan.warmup)
        variables = model.pretrained_variables
        shares = layerwise.rates(model.encoder, settings.optimizer.first_layer_rate, variables)
        self.optimizer = build_optimizer(settings.optimizer, self.learning_rate, variables, shares)

    def __call__(
        self, unlabelled: dict, labelled: dict | None, step: tf.Tensor, view_size: tuple[int, int] | None = None
    ) -> dict[str, tf.Tensor]:
        """Makes one update.

        Args:
            unlabelled: Stored images: `image`, uint8 [n, height, width, 3], and `shape`, float32 [n, 2]. Without
                `shape`, the images fill their canvases.
            labelled: The same of m images, and `label`, int [m]; None if there are no labels.
            step: Number of the steps before this one, a scalar integer. Together with the seed, it determines every
                random draw.
            view_size: Height and width of the first two views; by default those that the encoder is trained on.

        Returns:
            This replica's share of each metric: summed over the replicas, they are the global batch's means.
        """
        metrics = self._pretrain(_stored_images(unlabelled), step, view_size or self._size)
        if labelled is not None:
            metrics |= self._train_probe(_stored_images(labelled), labelled["label"], step)
        return metrics

    def _random_numbers(self, stream: int, step: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Draws the global batch's random numbers and returns those of this replica's `rows`, int [n]."""
        total = tf.shape(rows)[0] * replicas.count()
        return tf.gather(augmentation.uniform_numbers(self._settings.seed, stream, step, total), rows)

    def _pretrain(self, images: StoredImages, step: tf.Tensor, view_size: tuple[int, int]) -> dict[str, tf.Tensor]:
        parts = self._settings.accumulate
        rows = replicas.global_rows(images.pixels)
        streams = range(_SMALL_VIEWS + self._settings.multi_crop.views)
        numbers = {stream: self._random_numbers(stream, step, rows) for stream in streams if stream != _PROBE_VIEW}
        gradients: list[tf.Tensor] = []
        metrics: dict[str, tf.Tensor] = {}
        for part in range(parts):
            # Every parts-th row, so that a part has the same images whatever the number of devices.
            numbers_of_part = {stream: drawn[part::parts] for stream, drawn in numbers.items()}
            part_gradients, part_metrics = self._gradients(images.every(parts, part), numbers_of_part, view_size)
            gradients = [a + b for a, b in zip(gradients, part_gradients, strict=True)] if gradients else part_gradients
            for name, share in part_metrics.items():
                metrics[name] = metrics.get(name, 0.0) + share / parts
        norm = self._update([gradient / parts for gradient in gradients])
        if self._model.momentum is not None:
            self._model.momentum.follow(tf.cast(step + 1, tf.float32) / self.learning_rate.steps)
        return metrics | {"gradient_norm": norm / replicas.count()}

    def _gradients(
        self, images: StoredImages, numbers: dict[int, tf.Tensor], view_size: tuple[int, int]
    ) -> tuple[list, dict[str, tf.Tensor]]:
        """Computes the gradients of this replica's share of the loss, and its metrics; enqueues the projections."""
        model, settings = self._model, self._settings
        # Both views in one pass: one resampling, one encoder call and one neighbour search of twice the rows.
        drawn = [numbers[_FIRST_VIEW], numbers[_SECOND_VIEW]]
        views = augmentation.random_views(images, drawn, settings.augmentation, view_size)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            # Nothing else is watched, so that frozen layers have no part in the backward pass.
            tape.watch([variable.value for variable in model.pretrained_variables])
            projected = _by_view(model.project(views), 2)
            if settings.multi_crop.views:
                small = _by_view(self._project_small_views(images, numbers), settings.multi_crop.views)
                projected = tf.concat([projected, small], axis=0)
            z = normalised(projected)
            keys = model.keys(views, tf.reshape(z[:2], [-1, z.shape[-1]]))
            nearest = self._nearest(keys, numbers)
            # In a loss without neighbours, each projection stands for its own.
            neighbours = _by_view(nearest.vectors, 2) if nearest else z[:2]
            predictions = None if model.prediction is None else model.predict(projected)
            per_image = self._loss(z, neighbours, predictions, settings.temperature)
            loss = replicas.global_mean(per_image)
        gradients = tape.gradient(loss, model.pretrained_variables)
        projections = replicas.gather(z[0], z[1])
        metrics = {
            "c_loss": loss,
            "c_acc": replicas.global_mean(losses.contrastive_accuracy(*projections)),
            "r_acc": losses.correlation_accuracy(*projections) / replicas.count(),
            "projection_std": losses.projection_std(projections[0]) / replicas.count(),
        }
        if model.support_set is not None and nearest is not None:
            newest = projections[0] if model.momentum is None else replicas.gather(_by_view(keys, 2)[0])[0]
            model.support_set.enqueue(newest.everywhere)
            batch = settings.batch_size / settings.accumulate
            metrics["support_set_age"] = replicas.global_mean(nearest.ages) / batch
        return gradients, metrics

    def _nearest(self, keys: tf.Tensor, numbers: dict[int, tf.Tensor]) -> Neighbours | None:
        """Searches the neighbours of the keys of the two whole views; None if the loss has none."""
        if self._model.support_set is None:
            return None
        k = self._settings.top_k
        choice = tf.tile(numbers[_NEIGHBOUR][:, 0], [2]) if k > 1 else None
        return self._model.support_set.nearest(keys, k, choice)

    def _project_small_views(self, images: StoredImages, numbers: dict[int, tf.Tensor]) -> tf.Tensor:
        """Projects the small views: float32 [views * n, d]."""
        crop = self._settings.multi_crop
        strength = self._settings.augmentation.model_copy(update={"crop_scale": crop.scale})
        drawn = [numbers[_SMALL_VIEWS + i] for i in range(crop.views)]
        views = augmentation.random_views(images, drawn, strength, self._small_view_size)
        return self._model.project(views)

    def _update(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        """Sums the gradients over the replicas, clips and applies them; returns their norm before clipping, a scalar.

        The optimiser must not sum them, because it would clip each replica's share instead of the sum.
        """
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        norm = tf.linalg.global_norm(gradients)
        clip = self._settings.optimizer.clip_norm
        if clip is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, clip, use_norm=norm)
        self.optimizer.apply(gradients, self._model.pretrained_variables)
        return norm

    def _train_probe(self, images: StoredImages, labels: tf.Tensor, step: tf.Tensor) -> dict[str, tf.Tensor]:
        probe = self._model.probe
        assert probe is not None
        numbers = self._random_numbers(_PROBE_VIEW, step, replicas.global_rows(images.pixels))
        views = augmentation.random_views(images, [numbers], self._settings.online_probe.augmentation, self._size)
        # In inference mode, so that labelled images leave no trace in the encoder, not even in batch norm's statistics.
        embeddings = tf.cast(self._model.exported(views, training=False), tf.float32)
        return probe.train(embeddings, labels)


def _stored_images(batch: dict) -> StoredImages:
    pixels = batch["image"]
    return StoredImages(pixels, batch["shape"]) if "shape" in batch else StoredImages.whole(pixels)


def _by_view(rows: tf.Tensor, views: int) -> tf.Tensor:
    """Reshapes the rows of several views, one view after the other: [views * n, d] to [views, n, d]."""
    return tf.reshape(rows, [views, -1, rows.shape[-1]])
