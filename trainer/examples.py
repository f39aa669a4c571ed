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
# The features below describe an image for DataGate; training and evaluation need none of them.
#: Height and width of the picture before ingest fitted it.
SOURCE_HEIGHT, SOURCE_WIDTH = "source_height", "source_width"
#: Mean and standard deviation of all values, as fractions of 255.
PIXEL_MEAN, PIXEL_STD = "pixel_mean", "pixel_std"
#: Standard deviation of the pixels' brightness, as a fraction of 255. It is 0 for an image of one colour, whose
#: `PIXEL_STD` is not 0 if its channels differ.
CONTRAST = "contrast"
#: Colour as fractions of 255: the mean difference of the highest and the lowest channel, which is 0 for a grey image;
#: the mean of red minus green; the mean of red and green minus blue.
SATURATION, RED_GREEN, YELLOW_BLUE = "saturation", "red_green", "yellow_blue"
#: Correlation of pixels with their right neighbours: near 1 for photographs, near 0 for noise, 1 for a plain image.
SMOOTHNESS = "smoothness"
#: Hashes that are equal for images with equal pixels, and for images that look alike. A plain image has no `LOOK_HASH`.
EXACT_HASH, LOOK_HASH = "exact_hash", "look_hash"

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
