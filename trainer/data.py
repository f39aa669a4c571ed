"""What the training loop reads: shuffled anew each epoch, in an order that the seed and the epoch alone decide."""

import hashlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer import examples
from trainer.errors import DataError

_HASH_BUCKETS = 10_000


def matching_files(patterns: list[str], required: bool = True) -> list[str]:
    """The files behind glob patterns, sorted so that every machine sees the same order.

    Raises:
        DataError: nothing matches, and something is required.
    """
    files = sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern))
    if required and not files:
        raise DataError(f"No TFRecord file matches {', '.join(patterns)}.")
    return files


def _records(files: list[str]) -> tf.data.Dataset:
    """The records of the files, of which there may be none, in order."""
    return tf.data.TFRecordDataset(tf.constant(files, tf.string))


class Survey(NamedTuple):
    """What is in some files: how many records, and a fingerprint of their bytes in order."""

    records: int
    fingerprint: str


def survey(files: list[str]) -> Survey:
    """Reads all records once. The fingerprint does not depend on the files' names or on where they lie."""
    digest, count = hashlib.sha256(), 0
    batches = _records(files).batch(1024)
    for hashes in batches.map(lambda records: tf.strings.to_hash_bucket_fast(records, 2**63 - 1)).as_numpy_iterator():
        digest.update(hashes.tobytes())
        count += hashes.size
    return Survey(count, digest.hexdigest())


def labels(files: list[str]) -> np.ndarray:
    """All labels in the files, int64 [N]; empty where the split is."""
    batches = _records(files).batch(1024).map(lambda records: examples.parse(records, examples.LABEL)[examples.LABEL])
    return np.concatenate([np.zeros([0], np.int64), *batches.as_numpy_iterator()])


class LabelledPixels(NamedTuple):
    """All images of a labelled split: uint8 [N, height, width, 3], and their classes, int64 [N]."""

    pixels: np.ndarray
    labels: np.ndarray


def labelled_pixels(files: list[str], size: tuple[int, int]) -> LabelledPixels:
    """Reads a whole labelled split into memory."""
    batches = list(_records(files).batch(1024).map(_labelled_pixels_of(size)).as_numpy_iterator())
    return LabelledPixels(*(np.concatenate([batch[name] for batch in batches]) for name in ("image", "label")))


class Order(NamedTuple):
    """What decides the order of an epoch's records: the seed and the epoch, given the size of the shuffle buffer."""

    buffer: int
    seed: int
    epoch: int


def _shuffled(files: list[str], order: Order) -> tf.data.Dataset:
    """One pass over the records."""
    drawn = np.random.default_rng([order.seed, order.epoch]).permutation(files).tolist()
    records = tf.data.Dataset.from_tensor_slices(drawn).interleave(
        tf.data.TFRecordDataset,
        cycle_length=min(4, len(files)),
        block_length=16,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return records.shuffle(order.buffer, seed=order.seed + order.epoch)


def without_autotuning(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Without tf.data's tuning while it runs, whose thread would hold up the end of an epoch.

    It sleeps twice as long each time, up to a minute, and an iterator of a distribution strategy that is dropped waits
    until it wakes: seconds after each epoch, for a reading that is many times as fast as any training.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def _shares(batches: tf.data.Dataset, context: tf.distribute.InputContext) -> tf.data.Dataset:
    """From global batches of records, the batches of the replicas that this worker feeds, one after the other.

    Each global batch is cut into one share a replica, in order, so that any number of replicas and workers trains on
    the same global batches. Every worker reads all records but parses its own alone.
    """
    replicas = context.num_replicas_in_sync
    mine = replicas // context.num_input_pipelines
    first = mine * context.input_pipeline_id
    return batches.map(lambda records: tf.reshape(records, [replicas, -1])[first : first + mine]).unbatch()


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
    files: list[str],
    size: tuple[int, int],
    batch: int,
    order: Order,
    skip: int = 0,
    context: tf.distribute.InputContext = tf.distribute.InputContext(),
) -> tf.data.Dataset:
    """Batches of one epoch of pretraining: `image`, uint8 [rows, height, width, 3].

    Args:
        files: TFRecords.
        size: height and width of the images.
        batch: rows of a global batch; the rest of an epoch that makes up no whole batch is left out.
        order: of the records.
        skip: global batches to leave out at the start.
        context: which replicas' rows are wanted; all of them by default.
    """
    batches = _shuffled(files, order).batch(batch, drop_remainder=True).skip(skip)
    return _shares(batches, context).map(_pixels_of(size), tf.data.AUTOTUNE)


def batch_ids(files: list[str], batch: int, order: Order, index: int) -> list[str]:
    """The ids of the images in global batch `index` of an epoch."""
    records = next(iter(_shuffled(files, order).batch(batch, drop_remainder=True).skip(index)))
    return [identity.decode() for identity in examples.parse(records, examples.ID)[examples.ID].numpy()]


def first_images(files: list[str], size: tuple[int, int], count: int, batch: int) -> tf.data.Dataset:
    """The first images in file order, in batches: `image`, uint8 [rows, height, width, 3]."""
    return _records(files).take(count).batch(batch).map(_pixels_of(size), tf.data.AUTOTUNE)


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
            if not any(True for _ in self._side(_records(files), held_out).take(1)):
                raise DataError(
                    f"The split `{examples.TRAIN}` has too few images for the online probe: none is left to {purpose}. "
                    "Add labelled images, or change trainer.online_probe.holdout."
                )

    def _side(self, records: tf.data.Dataset, held_out: bool) -> tf.data.Dataset:
        def is_wanted(record):
            identity = examples.parse(record[tf.newaxis], examples.ID)[examples.ID][0]
            bucket = tf.strings.to_hash_bucket_fast(identity, _HASH_BUCKETS)
            return (bucket < self._threshold) == held_out

        return records.filter(is_wanted)

    def training_batches(
        self,
        batch: int,
        order: Order,
        skip: int = 0,
        context: tf.distribute.InputContext = tf.distribute.InputContext(),
    ) -> tf.data.Dataset:
        """Endless batches as `unlabelled_batches` has them, of `image` and `label`, int64 [rows]."""
        records = self._side(_shuffled(self._files, order), held_out=False).repeat()
        return _shares(records.batch(batch).skip(skip), context).map(_labelled_pixels_of(self._size), tf.data.AUTOTUNE)

    def images(self, held_out: bool, batch: int, count: int = -1) -> tf.data.Dataset:
        """One side's first images in file order (by default all of them); the last batch may be smaller."""
        records = self._side(_records(self._files), held_out).take(count)
        return records.batch(batch).map(_labelled_pixels_of(self._size), tf.data.AUTOTUNE)
