"""Reads TFRecords for training: shuffled anew in each epoch, in an order that depends only on seed and epoch."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer import examples, splits
from trainer import survey as surveys
from trainer.errors import DataError
from trainer.survey import Survey

_HASH_BUCKETS = 10_000


def matching_files(patterns: list[str], required: bool = True) -> list[str]:
    """Returns the files that match glob patterns, sorted so that every machine sees the same order.

    Raises:
        DataError: If no file matches although `required` is set.
    """
    files = sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern))
    if required and not files:
        raise DataError(f"No TFRecord file matches {', '.join(patterns)}.")
    return files


def _records(files: list[str]) -> tf.data.Dataset:
    """Returns the records of the files in order; there may be no files."""
    return tf.data.TFRecordDataset(tf.constant(files, tf.string))


def survey(files: list[str], labelled: bool = False) -> Survey:
    """Summarises records. The fingerprint does not depend on the names and folders of the files.

    Args:
        files: TFRecords; those that ingest has surveyed are not read.
        labelled: Whether to summarise the labels as well.

    Raises:
        DataError: If a file that is read is damaged or compressed, or a record is no image as in `examples`.
    """

    def read(file: str) -> Survey:
        with problems_named([file]):
            return surveys.of_batches(_records([file]).batch(1024), labelled)

    known = surveys.known(files)
    return surveys.joined(known.get(file) or read(file) for file in files)


@contextmanager
def problems_named(files: list[str]) -> Iterator[None]:
    """Names the file that cannot be read.

    Raises:
        DataError: Instead of TensorFlow's errors.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        for file in files:
            try:
                for _ in _records([file]):
                    pass
            except tf.errors.DataLossError as damage:
                raise DataError(
                    f"{file} is damaged, cut off or compressed: {_reason(damage)}. Uncompressed TFRecords are read, "
                    "such as nnclr ingest writes; nnclr run --no-cache writes those of a working directory again."
                ) from error
        raise DataError(
            f"A record of {', '.join(files[:3])}{' ...' if len(files) > 3 else ''} is not an image as nnclr ingest "
            f"writes it: {_reason(error)}."
        ) from error


def _reason(error: tf.errors.OpError) -> str:
    """Returns what TensorFlow says of a record, without the operations and iterators that it names around it."""
    text = re.sub(r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*", " ", error.message, flags=re.DOTALL)
    return " ".join(re.split(r"Iterator::[\w:\[\]]+:", text)[-1].split()).rstrip(".")


class LabelledPixels(NamedTuple):
    """All images of a labelled split.

    Attributes:
        pixels: uint8 [N, height, width, 3].
        labels: Classes of the images, int64 [N].
    """

    pixels: np.ndarray
    labels: np.ndarray


def labelled_pixels(files: list[str], size: tuple[int, int]) -> LabelledPixels:
    """Reads a whole labelled split into memory, fitted to one size."""
    batches = list(_records(files).batch(1024).map(_fitted(size, examples.LABEL)).as_numpy_iterator())
    return LabelledPixels(*(np.concatenate([batch[name] for batch in batches]) for name in ("image", "label")))


class Order(NamedTuple):
    """Everything that determines the order of an epoch's records.

    Attributes:
        buffer: Number of records in the shuffle buffer.
        seed: Seed of the training.
        epoch: The epoch, counted from 1.
    """

    buffer: int
    seed: int
    epoch: int


def _shuffled(files: list[str], order: Order) -> tf.data.Dataset:
    """Returns one pass over the records."""
    generator = np.random.default_rng([order.seed, order.epoch])
    records = tf.data.Dataset.from_tensor_slices(generator.permutation(files).tolist()).interleave(
        tf.data.TFRecordDataset,
        cycle_length=min(4, len(files)),
        block_length=16,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return records.shuffle(order.buffer, seed=int(generator.integers(2**63)))


def without_autotuning(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Turns off tf.data's autotuning, whose thread would delay the end of every epoch.

    The thread sleeps up to a minute, and the iterator of a distribution strategy waits for it when the epoch ends.
    Reading is many times faster than training, so that autotuning gains nothing.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def _shares(batches: tf.data.Dataset, context: tf.distribute.InputContext) -> tf.data.Dataset:
    """Takes from global batches of records the shares of the replicas that this worker feeds, one after the other.

    Each global batch is cut into one share for each replica, in order, so that any number of replicas and workers
    trains on the same global batches. Every worker reads all records, but parses only its own.
    """
    replicas = context.num_replicas_in_sync
    shares = replicas // context.num_input_pipelines
    first = shares * context.input_pipeline_id
    return batches.map(lambda records: tf.reshape(records, [replicas, -1])[first : first + shares]).unbatch()


def _fitted(size: tuple[int, int], *features: str) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns a function that parses records to `image`, uint8 [rows, height, width, 3], and further features."""

    def parse(records: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = examples.parse(records, *examples.PIXEL_FEATURES, *features)
        return {"image": examples.fitted(parsed, size)} | {name: parsed[name] for name in features}

    return parse


def _stored(canvas: tuple[int, int], *features: str) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns a function that parses records to `image` and `shape`, see `examples.stored`, and further features."""

    def parse(records: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = examples.parse(records, *examples.PIXEL_FEATURES, *features)
        return examples.stored(parsed, canvas) | {name: parsed[name] for name in features}

    return parse


def unlabelled_batches(
    files: list[str],
    canvas: tuple[int, int],
    batch: int,
    order: Order,
    skip: int = 0,
    context: tf.distribute.InputContext = tf.distribute.InputContext(),
) -> tf.data.Dataset:
    """Returns the batches of one epoch of pretraining.

    Args:
        files: TFRecords of unlabelled images.
        canvas: Height and width of the batches, at least those of the largest image.
        batch: Number of rows of a global batch. Images that do not fill a whole batch are left out of the epoch.
        order: Order of the records.
        skip: Number of global batches to skip at the start.
        context: The replicas whose rows are returned; by default all.

    Returns:
        Batches with `image`, uint8 [rows, height, width, 3], and `shape`, float32 [rows, 2]: see `examples.stored`.
    """
    batches = _shuffled(files, order).batch(batch, drop_remainder=True).skip(skip)
    return _shares(batches, context).map(_stored(canvas), tf.data.AUTOTUNE)


def batch_ids(files: list[str], batch: int, order: Order, index: int) -> list[str]:
    """Returns the ids of the images in a global batch of an epoch; `index` counts the batches from 0."""
    records = next(iter(_shuffled(files, order).batch(batch, drop_remainder=True).skip(index)))
    return [identity.decode() for identity in examples.parse(records, examples.ID)[examples.ID].numpy()]


def first_images(files: list[str], size: tuple[int, int], count: int, batch: int) -> tf.data.Dataset:
    """Returns the first `count` images, fitted to one size, in batches with `image`, uint8 [rows, height, width, 3]."""
    return _records(files).take(count).batch(batch).map(_fitted(size), tf.data.AUTOTUNE)


class LabelledSplit:
    """The labelled images of the online probe, divided into training and held-out images by a hash of each image's id.

    Args:
        files: TFRecords of the split `train`.
        size: Height and width of the images that an encoder is trained on.
        holdout: Share of the images that is held out for validation.
        canvas: Height and width of the batches of stored images, at least those of the largest image; by default
            `size`.

    Raises:
        DataError: If there are so few images that one of the two sides is empty.
    """

    def __init__(self, files: list[str], size: tuple[int, int], holdout: float, canvas: tuple[int, int] | None = None):
        self._files, self._size, self._canvas = files, size, canvas or size
        self._threshold = round(holdout * _HASH_BUCKETS)
        for held_out, purpose in ((False, "train on"), (True, "hold out")):
            # An empty side would be repeated for ever, or would lead to a division by zero.
            if not any(True for _ in self._side(_records(files), held_out).take(1)):
                raise DataError(
                    f"The split `{splits.TRAIN}` has too few images for the online probe: none is left to {purpose}. "
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
        """Returns endless batches of training images like `unlabelled_batches`, with `label`, int64 [rows]."""
        records = self._side(_shuffled(self._files, order), held_out=False).repeat()
        parse = _stored(self._canvas, examples.LABEL)
        return _shares(records.batch(batch).skip(skip), context).map(parse, tf.data.AUTOTUNE)

    def images(self, held_out: bool, batch: int, count: int = -1) -> tf.data.Dataset:
        """Returns fitted images in file order, with `image` and `label`; the last batch may be smaller.

        Args:
            held_out: Whether to return held-out images or training images.
            batch: Number of images in a batch.
            count: Number of images; by default all.
        """
        records = self._side(_records(self._files), held_out).take(count)
        return records.batch(batch).map(_fitted(self._size, examples.LABEL), tf.data.AUTOTUNE)
