"""The images of a training: counted once at the start, then delivered in batches to the replicas."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from trainer import data, examples, splits
from trainer.config import TrainerSettings
from trainer.errors import DataError

# As in the schema of the pipeline. A probe of more classes takes gigabytes.
_MOST_CLASSES = 10_000


@dataclass(frozen=True)
class TrainingImages:
    """What a training reads.

    Attributes:
        unlabelled_files: TFRecords to pretrain on.
        labelled_files: TFRecords for the online probe.
        count: Number of unlabelled images.
        size: Height and width of the images that an encoder is trained on.
        canvas: Height and width of the batches of stored images.
        labelled: Labelled images for the online probe; None if there are none.
        classes: Number of classes; 0 if there are no labelled images.
        fingerprints: Fingerprints of the unlabelled and of the labelled records.
    """

    unlabelled_files: list[str]
    labelled_files: list[str]
    count: int
    size: tuple[int, int]
    canvas: tuple[int, int]
    labelled: data.LabelledSplit | None
    classes: int
    fingerprints: tuple[str, str]

    def batches(
        self, settings: TrainerSettings, strategy: tf.distribute.Strategy, epoch: int, offset: int
    ) -> Iterator[Any]:
        """Distributes an epoch's batches over the replicas of a strategy.

        Args:
            settings: Settings of the trainer.
            strategy: The strategy that trains.
            epoch: The epoch, counted from 1; together with the seed, it determines the order of the images.
            offset: Number of batches of the epoch to skip.

        Yields:
            Batches with `unlabelled` and, if there are labels, `labelled`.

        Raises:
            DataError: If a file is damaged.
        """

        def batches_of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            order = _order(settings, epoch)
            parts = {
                "unlabelled": data.unlabelled_batches(
                    self.unlabelled_files, self.canvas, settings.batch_size, order, offset, context
                )
            }
            if self.labelled is not None:
                batch = settings.online_probe.batch_size
                parts["labelled"] = self.labelled.training_batches(batch, order, offset, context)
            return data.without_autotuning(tf.data.Dataset.zip(parts).prefetch(2))

        with data.problems_named(self.unlabelled_files + self.labelled_files):
            yield from strategy.distribute_datasets_from_function(batches_of_worker)

    def ids(self, settings: TrainerSettings, epoch: int, batch: int) -> list[str]:
        """Returns the ids of the unlabelled images in a batch of an epoch."""
        return data.batch_ids(self.unlabelled_files, settings.batch_size, _order(settings, epoch), batch)


def read(settings: TrainerSettings, unlabelled_files: list[str], labelled_files: list[str]) -> TrainingImages:
    """Surveys all records: reads those that ingest has not surveyed.

    Args:
        settings: Settings of the trainer.
        unlabelled_files: TFRecords to pretrain on.
        labelled_files: TFRecords for the online probe, which may hold no images.

    Raises:
        DataError: If there are no unlabelled images, too few labelled ones to train and validate the online probe, or
            records that cannot be read.
    """
    unlabelled, labelled = data.survey(unlabelled_files), data.survey(labelled_files, labelled=True)
    if not unlabelled.records:
        raise DataError(f"The split `{splits.UNLABELLED}` has no images: add images.")
    size, canvas = examples.image_size(unlabelled_files), unlabelled.largest
    if size is None and unlabelled.smallest != canvas:
        raise DataError(
            f"The records of the split `{splits.UNLABELLED}` have images of different sizes, up to "
            f"{canvas[0]}x{canvas[1]}, and no feature `{examples.IMAGE_SIZE}` that gives the size to train on: add it, "
            "or ingest the images with nnclr ingest."
        )
    size = size or canvas
    least, greatest = labelled.labels or (0, -1)
    if least < 0 or greatest >= _MOST_CLASSES:
        raise DataError(
            f"The labels of the split `{splits.TRAIN}` go from {least} to {greatest}, and only those from 0 to "
            f"{_MOST_CLASSES - 1} can be used: number the classes from 0."
        )
    return TrainingImages(
        unlabelled_files=unlabelled_files,
        labelled_files=labelled_files,
        count=unlabelled.records,
        size=size,
        canvas=canvas,
        labelled=data.LabelledSplit(labelled_files, size, settings.online_probe.holdout, labelled.largest)
        if labelled.records
        else None,
        classes=greatest + 1,
        fingerprints=(unlabelled.fingerprint, labelled.fingerprint),
    )


def _order(settings: TrainerSettings, epoch: int) -> data.Order:
    return data.Order(settings.shuffle_buffer, settings.seed, epoch)
