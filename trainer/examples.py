"""The layout of an image in a TFRecord: ingest writes it, and training and evaluation read it.

Pixels are stored as raw uint8 bytes (height x width x 3, row-major), uncompressed, or as a JPEG file. Images may be
larger than those that an encoder is trained on, and then differ in size: training crops its views from them, and
everything else takes the fitted image.
"""

from collections.abc import Callable

import tensorflow as tf

from trainer import fitting

IMAGE = "image"
HEIGHT = "height"
WIDTH = "width"
ENCODING = "encoding"
IMAGE_SIZE = "image_size"
LABEL = "label"
ID = "id"
FOLD = "fold"
# The features below describe an image for DataGate; training and evaluation need none of them.
#: Height and width of the picture before ingest resized it.
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

#: Values of the feature `ENCODING`.
RAW, JPEG = "raw", "jpeg"

# Records of earlier versions have neither `ENCODING` nor `IMAGE_SIZE`: their pixels are raw and fitted.
_FITTED = 0
_FEATURES = {
    IMAGE: tf.io.FixedLenFeature([], tf.string),
    HEIGHT: tf.io.FixedLenFeature([], tf.int64),
    WIDTH: tf.io.FixedLenFeature([], tf.int64),
    ENCODING: tf.io.FixedLenFeature([], tf.string, RAW),
    IMAGE_SIZE: tf.io.FixedLenFeature([], tf.int64, _FITTED),
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
        A dense tensor of N rows for each feature, except `FOLD`, which is sparse. `IMAGE` contains bytes: see `fitted`
        and `stored`.
    """
    return tf.io.parse_example(serialized, {name: _FEATURES[name] for name in features})


#: The features that `fitted` and `stored` need.
PIXEL_FEATURES = (IMAGE, HEIGHT, WIDTH, ENCODING)


def decode(image: tf.Tensor, height: tf.Tensor, width: tf.Tensor, encoding: tf.Tensor) -> tf.Tensor:
    """Decodes `PIXEL_FEATURES` of one image in the size in which it is stored: uint8 [height, width, 3]."""
    return tf.cond(
        encoding == JPEG,
        lambda: tf.io.decode_jpeg(image, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.reshape(tf.io.decode_raw(image, tf.uint8), [height, width, 3]),
    )


def fitted(parsed: dict[str, tf.Tensor], size: tuple[int, int]) -> tf.Tensor:
    """Decodes images and fits them to one size, as an exported encoder does: see `fitting.fit`.

    Args:
        parsed: `PIXEL_FEATURES` of N images.
        size: Height and width of the result.

    Returns:
        uint8 [N, height, width, 3].
    """

    def fit(image: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.round(fitting.fit(image[tf.newaxis], size)[0]), tf.uint8)

    return _decoded(parsed, size, fit)


def stored(parsed: dict[str, tf.Tensor], canvas: tuple[int, int]) -> dict[str, tf.Tensor]:
    """Decodes images in the size in which they are stored.

    Args:
        parsed: `PIXEL_FEATURES` of N images.
        canvas: Height and width of the result, at least those of the largest image.

    Returns:
        `image`, uint8 [N, height, width, 3], with each image in the upper left corner; and `shape`, the height and
        width of each image, float32 [N, 2].
    """

    def pad(image: tf.Tensor) -> tf.Tensor:
        return tf.image.pad_to_bounding_box(image, 0, 0, *canvas)

    shape = tf.cast(tf.stack([parsed[HEIGHT], parsed[WIDTH]], axis=1), tf.float32)
    return {IMAGE: _decoded(parsed, canvas, pad), "shape": shape}


def _decoded(
    parsed: dict[str, tf.Tensor], size: tuple[int, int], finish: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """Decodes images, and brings those of another size to `size`: uint8 [N, height, width, 3]."""

    def decode_and_finish(one: tuple[tf.Tensor, ...]) -> tf.Tensor:
        return tf.ensure_shape(finish(decode(*one)), [*size, 3])

    # One operation for all images is many times as fast as one for each.
    alike = tf.reduce_all(
        (parsed[ENCODING] == RAW) & (parsed[HEIGHT] == size[0]) & (parsed[WIDTH] == size[1]),
    )
    return tf.cond(
        alike,
        lambda: tf.reshape(tf.io.decode_raw(parsed[IMAGE], tf.uint8), [-1, *size, 3]),
        lambda: tf.map_fn(
            decode_and_finish,
            tuple(parsed[name] for name in PIXEL_FEATURES),
            fn_output_signature=tf.TensorSpec([*size, 3], tf.uint8),
        ),
    )


def image_size(files: list[str]) -> tuple[int, int] | None:
    """Returns the height and width of the images that an encoder is trained on; None if the records do not say it."""
    for record in tf.data.TFRecordDataset(files).batch(1).take(1):
        size = int(parse(record, IMAGE_SIZE)[IMAGE_SIZE][0])
        return None if size == _FITTED else (size, size)
    return None


def shapes(serialized: tf.Tensor) -> tf.Tensor:
    """Returns height and width of the stored images: int64 [N, 2].

    Raises:
        InvalidArgumentError: If a feature is missing, or raw pixels are of another number.
    """
    parsed = parse(serialized, *PIXEL_FEATURES)
    raw = parsed[ENCODING] == RAW
    bytes_of_raw = parsed[HEIGHT] * parsed[WIDTH] * 3
    actual = tf.cast(tf.strings.length(parsed[IMAGE]), tf.int64)
    fits = tf.reduce_all(~raw | (actual == bytes_of_raw))
    message = f"the feature {IMAGE} does not have 3 bytes for each of {HEIGHT} x {WIDTH} pixels"
    with tf.control_dependencies([tf.debugging.Assert(fits, [message])]):
        return tf.stack([parsed[HEIGHT], parsed[WIDTH]], axis=1)
