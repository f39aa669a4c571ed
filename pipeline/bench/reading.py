"""The input pipeline without training: temporary TFRecords, read as the trainer reads them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from components.image_example_gen import encoding
from components.image_example_gen.sources.base import Picture
from trainer import data, splits
from trainer.config import TrainerSettings

_SHARDS = 4


@contextmanager
def random_records(images: int, size: int) -> Iterator[list[str]]:
    """Writes temporary TFRecords of random images in the layout of ImageExampleGen.

    Args:
        images: The number of images.
        size: Height and width of the images in pixels.

    Yields:
        The paths of the files, which are deleted afterwards.
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="nnclr-bench-") as directory:
        files = [str(Path(directory) / f"data_tfrecord-{shard:05d}-of-{_SHARDS:05d}") for shard in range(_SHARDS)]
        for shard, file in enumerate(files):
            with tf.io.TFRecordWriter(file) as writer:
                for i in range(shard, images, _SHARDS):
                    pixels = rng.integers(0, 256, (size, size, 3), np.uint8)
                    picture = Picture(splits.UNLABELLED, i, f"unlabelled/{i}", pixels, splits.NO_LABEL)
                    writer.write(encoding.to_example(picture, pixels, size))
        yield files


class Reading:
    """Reads one epoch of batches at each call, and discards them.

    Args:
        files: Paths of the TFRecords.
        settings: Settings of the trainer.
        size: Height and width of the images in pixels.
    """

    def __init__(self, files: list[str], settings: TrainerSettings, size: tuple[int, int]):
        self._files, self._settings, self._size, self._epoch = files, settings, size, 0

    def __call__(self) -> int:
        """Reads an epoch and returns its number of images."""
        settings = self._settings
        self._epoch += 1
        order = data.Order(settings.shuffle_buffer, settings.seed, self._epoch)
        batches = data.unlabelled_batches(self._files, self._size, settings.batch_size, order)
        return sum(int(batch["image"].shape[0]) for batch in batches)
