"""The layout of an image in a TFRecord: ingest writes it, and training and evaluation read it.

Pixels are stored as raw uint8 bytes (height x width x 3, row-major), uncompressed.
"""

import tensorflow as tf

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
        serialized: Serialized examples, strings [N].
        *features: Names of the features to parse.

    Returns:
        A dense tensor of N rows for each feature, except `FOLD`, which is sparse. `IMAGE` contains bytes: see `pixels`.
    """
    return tf.io.parse_example(serialized, {name: _FEATURES[name] for name in features})


def pixels(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Decodes the bytes of the feature `IMAGE`, strings [N], into pixels, uint8 [N, height, width, 3]."""
    return tf.reshape(tf.io.decode_raw(image, tf.uint8), [-1, *size, 3])


def image_size(files: list[str]) -> tuple[int, int]:
    """Returns the height and width of the images in `files`, which all have the same size."""
    for record in tf.data.TFRecordDataset(files).batch(1).take(1):
        first = parse(record, HEIGHT, WIDTH)
        return int(first[HEIGHT][0]), int(first[WIDTH][0])
    raise ValueError(f"no images in {files}")
