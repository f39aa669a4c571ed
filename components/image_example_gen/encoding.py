"""Converts one picture to one `tf.train.Example`, in plain functions."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from components.image_example_gen import duplicates
from components.image_example_gen.pixel_statistics import pixel_statistics
from components.image_example_gen.sources.base import PICTURE_FORMATS, Picture
from trainer import examples

# A larger picture is refused: it is a decompression bomb, or a scan that was meant to be cut into pieces.
_MOST_PIXELS = 100_000_000


class Undecodable(Exception):
    """A picture cannot become an example; the text gives the reason."""


def decode(picture: Picture) -> np.ndarray:
    """Decodes a picture to uint8 [height, width, 3].

    It decodes as TensorFlow's own decoders do, so that training and serving see the same pixels: grey becomes three
    equal channels, an alpha channel is dropped, 16 bits are cut to 8, and an EXIF orientation is not applied.

    Raises:
        Undecodable: If the content is not a picture, if it is cut off, or if the picture is too large.
    """
    if picture.error:
        raise Undecodable(picture.error)
    if isinstance(picture.content, np.ndarray):
        return picture.content
    try:
        with Image.open(io.BytesIO(picture.content), formats=list(PICTURE_FORMATS)) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise Undecodable(f"{image.width}x{image.height} is more than {_MOST_PIXELS:,} pixels")
            if image.mode.startswith("I"):
                return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Undecodable(str(error).replace(" <_io.BytesIO object", "").partition(" at 0x")[0]) from error


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes the shorter side to `size` (bilinear, antialiased) and crops the centre.

    Args:
        image: Pixels, uint8 [height, width, 3].
        size: Height and width of the result, in pixels.

    Returns:
        Pixels, uint8 [size, size, 3].
    """
    height, width, _ = image.shape
    if height == width == size:
        return image
    scale = size / min(height, width)
    width, height = max(size, round(width * scale)), max(size, round(height * scale))
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def to_example(picture: Picture, image: np.ndarray, source_size: tuple[int, int] | None = None) -> bytes:
    """Serialises a fitted image with its label, folds and id, and with figures about its pixels for DataGate.

    The pixels are stored raw, which is the fastest to read for training: on 96x96 images, PNG reads 0.18 to 0.26 and
    JPEG 0.41 to 0.50 of the images per second that raw pixels do, with 0.4 and 0.1 of the bytes (measured with
    `python -m tests.benchmarks.encodings`).

    Args:
        picture: The picture that the image was decoded from.
        image: The pixels to store, uint8 [height, width, 3].
        source_size: Height and width of the picture before it was fitted. If None, those of `image`.
    """
    source_height, source_width = source_size or image.shape[:2]
    hashes = duplicates.hashes(image[np.newaxis])
    features = {
        examples.IMAGE: _bytes(np.ascontiguousarray(image).tobytes()),
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
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


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
