"""The layout of one image in a TFRecord: the contract between ingest, which writes it, and training, which reads it.

Pixels are stored as raw uint8 bytes (height x width x 3, row-major), uncompressed.
"""

import tensorflow as tf

# Names of splits are used together with this layout; they are defined where no TensorFlow is imported.
from trainer.splits import NO_LABEL, SPLITS, TEST, TRAIN, UNLABELLED  # noqa: F401

IMAGE = "image"
HEIGHT = "height"
WIDTH = "width"
LABEL = "label"
ID = "id"
FOLD = "fold"
PIXEL_MEAN = "pixel_mean"
PIXEL_STD = "pixel_std"

_FEATURES = {
    IMAGE: tf.io.FixedLenFeature([], tf.string),
    HEIGHT: tf.io.FixedLenFeature([], tf.int64),
    WIDTH: tf.io.FixedLenFeature([], tf.int64),
    LABEL: tf.io.FixedLenFeature([], tf.int64),
    ID: tf.io.FixedLenFeature([], tf.string),
    FOLD: tf.io.VarLenFeature(tf.int64),
}


def parse(serialized: tf.Tensor, *features: str) -> dict[str, tf.Tensor]:
    """Parses a batch of serialized examples.

    Args:
        serialized: strings, [N].
        *features: the names to parse; the others are not touched.

    Returns:
        A dense tensor of N rows a feature, except `FOLD`, which is sparse; `IMAGE` is still bytes: see `pixels`.
    """
    return tf.io.parse_example(serialized, {name: _FEATURES[name] for name in features})


def pixels(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Turns stored image bytes into pixels: strings [N] to uint8 [N, height, width, 3]."""
    return tf.reshape(tf.io.decode_raw(image, tf.uint8), [-1, *size, 3])


def image_size(files: list[str]) -> tuple[int, int]:
    """Height and width of the images in `files`: all have the same, so the first record tells."""
    for record in tf.data.TFRecordDataset(files).batch(1).take(1):
        first = parse(record, HEIGHT, WIDTH)
        return int(first[HEIGHT][0]), int(first[WIDTH][0])
    raise ValueError(f"no images in {files}")
