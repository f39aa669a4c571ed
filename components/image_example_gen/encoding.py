"""Plain functions from one picture to one `tf.train.Example`."""

import io
import math

import numpy as np
import tensorflow as tf
from PIL import Image

from components.image_example_gen.sources.base import Picture
from trainer import examples

# Refuse what would unpack to more than this: a decompression bomb, or a scan that was meant to be cut up.
_LARGEST_PIXELS = 100_000_000


class Undecodable(Exception):
    """A picture that cannot become an example; the text says why."""


def decode(picture: Picture) -> np.ndarray:
    """The picture's pixels, uint8 [height, width, 3].

    As TensorFlow's own decoders do, so that training and serving see the same: grey becomes three equal channels, an
    alpha channel is dropped, 16 bits are cut to 8, and an EXIF orientation is not applied.

    Raises:
        Undecodable: it is no picture, broken off, or too large.
    """
    if picture.error:
        raise Undecodable(picture.error)
    if isinstance(picture.content, np.ndarray):
        return picture.content
    try:
        with Image.open(io.BytesIO(picture.content), formats=("JPEG", "PNG", "WEBP")) as image:
            if image.width * image.height > _LARGEST_PIXELS:
                raise Undecodable(f"{image.width}x{image.height} is more than {_LARGEST_PIXELS:,} pixels")
            if image.mode.startswith("I"):
                return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Undecodable(str(error).replace(" <_io.BytesIO object", "").partition(" at 0x")[0]) from error


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes the shorter side to `size` (bilinear, antialiased) and crops the centre: uint8 [size, size, 3]."""
    height, width, _ = image.shape
    if height == width == size:
        return image
    scale = size / min(height, width)
    wanted = max(size, round(width * scale)), max(size, round(height * scale))
    resized = Image.fromarray(image).resize(wanted, Image.Resampling.BILINEAR)
    left, top = (wanted[0] - size) // 2, (wanted[1] - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def to_example(picture: Picture, image: np.ndarray) -> bytes:
    """Serialises a fitted image with what is known of it.

    The pixels are stored raw, which reads fastest for training: compared on 96x96 images with
    `python -m tests.benchmarks.encodings`, PNG gives 0.18 to 0.26 and JPEG 0.41 to 0.50 of its images/s, at 0.4 and 0.1
    of its bytes.
    """
    mean, std = _statistics(image)
    features = {
        examples.IMAGE: _bytes(np.ascontiguousarray(image).tobytes()),
        examples.HEIGHT: _ints(image.shape[0]),
        examples.WIDTH: _ints(image.shape[1]),
        examples.LABEL: _ints(picture.label),
        examples.ID: _bytes(picture.id.encode()),
        examples.FOLD: _ints(*picture.folds),
        examples.PIXEL_MEAN: _float(mean),
        examples.PIXEL_STD: _float(std),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _statistics(image: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the values, as fractions of 255.

    From sums of integers: exact, and at half the cost of an image of floats.
    """
    total = int(np.sum(image, dtype=np.uint64))
    squares = int(np.sum(np.square(image, dtype=np.uint16), dtype=np.uint64))
    return total / image.size / 255, math.sqrt(image.size * squares - total**2) / image.size / 255


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _ints(*values: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _float(value: float) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
