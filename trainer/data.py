"""What the training loop reads: shuffled anew each epoch, in an order that the seed and the epoch alone decide."""

import numpy as np
import tensorflow as tf

from trainer import examples
from trainer.errors import DataError

_HASH_BUCKETS = 10_000


def matching_files(patterns: list[str]) -> list[str]:
    """The files behind glob patterns, sorted so that every machine sees the same order.

    Raises:
        DataError: nothing matches.
    """
    files = sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern))
    if not files:
        raise DataError(f"No TFRecord file matches {', '.join(patterns)}.")
    return files


def count(files: list[str]) -> int:
    """Number of records in the files."""
    return int(tf.data.TFRecordDataset(files).batch(1024).reduce(np.int64(0), lambda n, b: n + tf.size(b, tf.int64)))


def labels(files: list[str]) -> np.ndarray:
    """All labels in the files, int64 [N]; empty where the split is."""
    batches = (
        tf.data.TFRecordDataset(files).batch(1024).map(lambda r: examples.parse(r, examples.LABEL)[examples.LABEL])
    )
    return np.concatenate([np.zeros([0], np.int64), *batches.as_numpy_iterator()])


def _shuffled(files: list[str], buffer: int, seed: int, epoch: int, keep=lambda records: records) -> tf.data.Dataset:
    """One pass over the records that `keep` lets through, in an order that only `seed` and `epoch` decide."""
    order = np.random.default_rng([seed, epoch]).permutation(files).tolist()
    records = tf.data.Dataset.from_tensor_slices(order).interleave(
        tf.data.TFRecordDataset,
        cycle_length=min(4, len(files)),
        block_length=16,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return keep(records).shuffle(buffer, seed=seed + epoch)


def _pixels_of(size):
    def parse(records):
        return {"image": examples.pixels(examples.parse(records, examples.IMAGE)[examples.IMAGE], size)}

    return parse


def _labelled_pixels_of(size):
    def parse(records):
        parsed = examples.parse(records, examples.IMAGE, examples.LABEL)
        return {
            "image": examples.pixels(parsed[examples.IMAGE], size),
            "label": parsed[examples.LABEL],
        }

    return parse


def unlabelled_batches(
    files: list[str], size: tuple[int, int], batch: int, buffer: int, seed: int, epoch: int
) -> tf.data.Dataset:
    """Global batches of one epoch of pretraining: `image`, uint8 [batch, height, width, 3]."""
    records = _shuffled(files, buffer, seed, epoch)
    return records.batch(batch, drop_remainder=True).map(_pixels_of(size), tf.data.AUTOTUNE)


class LabelledSplit:
    """The labelled images of the online probe, parted once and for all by a hash of each image's id.

    Args:
        files: TFRecords of the split `train`.
        size: height and width of the images.
        holdout: share that is never trained on, for validation.

    Raises:
        DataError: so few images that one side has none.
    """

    def __init__(self, files: list[str], size: tuple[int, int], holdout: float):
        self._files, self._size = files, size
        self._threshold = round(holdout * _HASH_BUCKETS)
        for held_out, purpose in ((False, "train on"), (True, "hold out")):
            # An empty side would be repeated for ever, or be divided by.
            if not any(True for _ in self._side(held_out)(tf.data.TFRecordDataset(files)).take(1)):
                raise DataError(
                    f"The split `{examples.TRAIN}` has too few images for the online probe: none is left to {purpose}. "
                    "Add labelled images, or change trainer.online_probe.holdout."
                )

    def _side(self, held_out: bool):
        def keep(records: tf.data.Dataset) -> tf.data.Dataset:
            def is_wanted(record):
                identity = examples.parse(record[tf.newaxis], examples.ID)[examples.ID][0]
                bucket = tf.strings.to_hash_bucket_fast(identity, _HASH_BUCKETS)
                return (bucket < self._threshold) == held_out

            return records.filter(is_wanted)

        return keep

    def training_batches(self, batch: int, buffer: int, seed: int, epoch: int) -> tf.data.Dataset:
        """Endless global batches: `image`, uint8 [batch, height, width, 3], and `label`, int64 [batch]."""
        records = _shuffled(self._files, buffer, seed, epoch, self._side(held_out=False)).repeat()
        return records.batch(batch, drop_remainder=True).map(_labelled_pixels_of(self._size), tf.data.AUTOTUNE)

    def validation_batches(self, batch: int) -> tf.data.Dataset:
        """One pass over the held-out images, in file order, whole: the last batch may be smaller."""
        records = self._side(held_out=True)(tf.data.TFRecordDataset(self._files))
        return records.batch(batch).map(_labelled_pixels_of(self._size), tf.data.AUTOTUNE)
