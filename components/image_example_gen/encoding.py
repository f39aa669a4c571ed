"""Converts one picture to one `tf.train.Example`, in plain functions."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from components.image_example_gen import duplicates
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.decoding import Undecodable, decode_file
from components.image_example_gen.pixel_statistics import pixel_statistics
from components.image_example_gen.sources.base import Picture
from components.image_example_gen.sources.picture_formats import readable_formats
from trainer import examples, fitting

# The limit for pictures that are stored with their own ratio. All images of a batch take the space of the longest one.
_LONGEST_STORED_RATIO = 2
_JPEG_QUALITY = 95


def decode(picture: Picture, size: int | None = None) -> np.ndarray:
    """Decodes a picture, see `decoding.decode_file`.

    Raises:
        Undecodable: If the content is not a picture, if it is cut off, or if the picture is too large.
    """
    if picture.error:
        raise Undecodable(picture.error)
    if isinstance(picture.content, np.ndarray):
        return picture.content
    return decode_file(picture.content, size)


def source_size(picture: Picture) -> tuple[int, int]:
    """Returns height and width of a picture that can be decoded, as it is stored at its source."""
    if isinstance(picture.content, np.ndarray):
        return picture.content.shape[:2]
    with Image.open(io.BytesIO(picture.content), formats=readable_formats()) as image:
        return image.height, image.width


def to_stored_size(picture: Picture, settings: IngestSettings) -> np.ndarray:
    """Decodes a picture and resizes it to the size in which it is stored.

    Args:
        picture: The picture.
        settings: Size of the stored images.

    Returns:
        Pixels, uint8 [height, width, 3].

    Raises:
        Undecodable: If the content is not a picture, if it is cut off, or if the picture is too large.
    """
    if settings.stored_size is None:
        return fit(decode(picture, settings.image_size), settings.image_size)
    return shrink(decode(picture, settings.stored_size), settings.stored_size)


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes the shorter side to `size` (bilinear, antialiased) and crops the centre.

    Args:
        image: Pixels, uint8 [height, width, 3].
        size: Height and width of the result, in pixels.

    Returns:
        Pixels, uint8 [size, size, 3].
    """
    if image.shape[:2] == (size, size):
        return image
    resized = _resized(_without_far_ends(image, fitting.LONGEST_RATIO), size)
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes the shorter side to `size` if it is longer (bilinear, antialiased); keeps the aspect ratio.

    Args:
        image: Pixels, uint8 [height, width, 3].
        size: Length of the shorter side of the result, in pixels.

    Returns:
        Pixels, uint8 [height, width, 3], at most twice as long as wide.
    """
    image = _without_far_ends(image, _LONGEST_STORED_RATIO)
    return image if min(image.shape[:2]) <= size else np.asarray(_resized(image, size))


def _resized(image: np.ndarray, size: int) -> Image.Image:
    height, width, _ = image.shape
    scale = size / min(height, width)
    width, height = max(size, round(width * scale)), max(size, round(height * scale))
    return Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)


def _without_far_ends(image: np.ndarray, ratio: int) -> np.ndarray:
    """Crops the centre of an extremely long picture, which would take gigabytes when its shorter side is enlarged."""
    height, width, _ = image.shape
    longest = ratio * min(height, width)
    top, left = max(height - longest, 0) // 2, max(width - longest, 0) // 2
    return image[top : top + longest, left : left + longest]


def to_example(
    picture: Picture,
    image: np.ndarray,
    image_size: int | None = None,
    encoding: str = examples.RAW,
    source_size: tuple[int, int] | None = None,
) -> bytes:
    """Serialises an image with its label, folds and id, and with figures about its pixels for DataGate.

    Raw pixels are the fastest to read for training: on 96x96 images, PNG reads 0.18 to 0.26 and JPEG 0.41 to 0.50 of
    the images per second that raw pixels do, with 0.4 and 0.1 of the bytes (measured with
    `python -m tests.benchmarks.encodings`).

    Args:
        picture: The picture that the image was decoded from.
        image: The pixels to store, uint8 [height, width, 3].
        image_size: Height and width of the images that an encoder is trained on, in pixels; by default the height of
            this one.
        encoding: `examples.RAW` or `examples.JPEG`.
        source_size: Height and width of the picture before it was resized; by default those of `image`.
    """
    source_height, source_width = source_size or image.shape[:2]
    hashes = duplicates.hashes(image[np.newaxis])
    features = {
        examples.IMAGE: _bytes(_as_jpeg(image) if encoding == examples.JPEG else np.ascontiguousarray(image).tobytes()),
        examples.ENCODING: _bytes(encoding.encode()),
        examples.IMAGE_SIZE: _ints(image_size or image.shape[0]),
        examples.HEIGHT: _ints(image.shape[0]),
        examples.WIDTH: _ints(image.shape[1]),
        examples.LABEL: _ints(picture.label),
        examples.ID: _bytes(picture.id.encode()),
        examples.FOLD: _ints(*picture.folds),
        examples.SOURCE_HEIGHT: _ints(source_height),
        examples.SOURCE_WIDTH: _ints(source_width),
        **{name: _float(value) for name, value in pixel_statistics(image).items()},
        examples.EXACT_HASH: _hash(hashes[duplicates.EXACT]),
        examples.LOOK_HASH: _hash(hashes[duplicates.LOOK]),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(
        # The order of a map's entries is not defined otherwise.
        deterministic=True
    )


def _as_jpeg(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    # Without subsampling of the colours, which blurs the edges of small images.
    Image.fromarray(image).save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return file.getvalue()


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _ints(*values: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _float(value: float) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))


def _hash(values: np.ndarray) -> tf.train.Feature:
    """Returns a hash as hexadecimal digits, which TFDV counts as a category; no value for an image without a hash."""
    return tf.train.Feature(
        bytes_list=tf.train.BytesList(value=[f"{value:016x}".encode() for value in values if value])
    )
