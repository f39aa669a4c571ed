"""Measurements of a model during its training, always on the same images."""

import logging

import numpy as np
import tensorflow as tf

from trainer import data, diagnosis, metrics
from trainer.config import TrainerSettings
from trainer.model import NNCLR

logger = logging.getLogger("nnclr")

_BATCH = 250
# Papers report kNN accuracies with 20 and with 200 neighbours; 20 suits small sets.
_NEIGHBOURS = 20


class Watch:
    """Measures a model on fixed unlabelled images and, if there are labels, on training and held-out images.

    Args:
        settings: Settings of the trainer.
        unlabelled_files: TFRecords of unlabelled images.
        labelled: The labelled images; None if there are none.
        size: Height and width of the images.
    """

    def __init__(
        self,
        settings: TrainerSettings,
        unlabelled_files: list[str],
        labelled: data.LabelledSplit | None,
        size: tuple[int, int],
    ):
        count = settings.watch.images
        self._unlabelled = data.first_images(unlabelled_files, size, count, _BATCH).cache()
        self._sides = None
        if labelled is not None:
            self._sides = [labelled.images(held_out, _BATCH, count).cache() for held_out in (False, True)]

    def measure(self, model: NNCLR, step: int, learning_rate: float) -> dict[str, float]:
        """Measures the model.

        Args:
            model: The model.
            step: Number of steps done.
            learning_rate: Learning rate of the last step.

        Returns:
            `rank_me` of the embeddings of unlabelled images. If there are labels, also `val_p_loss` and `val_p_acc` of
            the online probe and `knn_acc` on held-out images, and `neighbour_label_share` on training images. The
            figures of a probe whose outputs are not finite are left out.

        Raises:
            TrainingError: If an embedding is not finite.
        """
        embeddings = _infer_all(model, self._unlabelled)["embedding"]
        diagnosis.require_finite_embeddings(step, embeddings, learning_rate)
        row = {"rank_me": metrics.rank_me(embeddings)}
        if self._sides is None:
            return row
        train, held_out = (_infer_all(model, side) for side in self._sides)
        for side in (train, held_out):
            diagnosis.require_finite_embeddings(step, side["embedding"], learning_rate)
        if np.isfinite(held_out["logits"]).all():
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(held_out["label"], held_out["logits"])
            hits = held_out["logits"].argmax(axis=1) == held_out["label"]
            row |= {"val_p_loss": float(tf.reduce_mean(loss)), "val_p_acc": float(hits.mean())}
        else:
            logger.warning(
                "The online probe diverged at step %d, which does not affect the encoder: lower "
                "trainer.online_probe.learning_rate to see its accuracy.",
                step,
            )
        row["knn_acc"] = metrics.knn_accuracy(
            train["embedding"], train["label"], held_out["embedding"], held_out["label"], _NEIGHBOURS
        )
        if len(train["label"]) > 1:
            row["neighbour_label_share"] = metrics.neighbour_label_share(train["projection"], train["label"])
        return row


def _infer_all(model: NNCLR, images: tf.data.Dataset) -> dict[str, np.ndarray]:
    parts = []
    for batch in images:
        label = {"label": batch["label"]} if "label" in batch else {}
        parts.append({name: tensor.numpy() for name, tensor in (model.infer(batch["image"]) | label).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
