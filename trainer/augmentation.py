"""Random views of images, computed in the graph. Every image gets its own random numbers.

A view is a pure function of pixels and uniform random numbers. The numbers depend only on seed and step and are drawn
for the global batch, of which each replica takes its rows. So the views are the same on any number of devices, and a
resumed training repeats the interrupted one. Nothing in this module runs at inference.

Brightness, contrast, saturation, hue and grey are linear in RGB, so their composition is one 3x3 matrix and one offset
for each image. That is a single pass over the pixels, with one clip at the end, instead of the five passes and clips of
Keras' layers. A Gaussian blur is two products with banded matrices for each image.

Keras' preprocessing layers draw from generators of their own: their views would depend on the number of devices, and
could not be repeated. They are also 5 to 9 times slower on a CPU (python -m tests.benchmarks.augmentations).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer.config import AugmentationSettings

# Columns of the uniform numbers that one view uses.
_AREA, _RATIO, _TOP, _LEFT, _FLIP, _BRIGHTNESS, _CONTRAST, _SATURATION, _HUE, _GREY = range(10)
_JITTER, _BLUR, _SIGMA, _SOLARISE = range(10, 14)
NUMBERS_PER_VIEW = 14

# Luma of ITU-R BT.601, and the YIQ colour space in whose chroma plane hue is an angle.
_LUMA = np.array([0.299, 0.587, 0.114])
_RGB_TO_YIQ = np.array([_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)
# A rotation of the hue by an angle is the matrix _LUMA_PART + cos(angle) * _CHROMA_PART + sin(angle) * _ROTATED_PART.
_LUMA_PART = np.outer(_YIQ_TO_RGB[:, 0], _LUMA)
_CHROMA_PART = _YIQ_TO_RGB[:, 1:] @ _RGB_TO_YIQ[1:]
_ROTATED_PART = _YIQ_TO_RGB[:, 1:] @ np.array([(0, -1), (1, 0)]) @ _RGB_TO_YIQ[1:]
_TO_GREY = np.tile(_LUMA, (3, 1))


def uniform_numbers(seed: int, stream: int, step: tf.Tensor, rows: int) -> tf.Tensor:
    """Draws uniform numbers in [0, 1): float32 [rows, NUMBERS_PER_VIEW].

    Args:
        seed: Seed of the training.
        stream: Number of the use of random numbers within a step; every use has its own numbers.
        step: Number of the step, a scalar integer.
        rows: Number of rows of the global batch.
    """
    key = tf.stack([tf.constant(seed + (stream << 32), tf.int64), tf.cast(step, tf.int64)])
    return tf.random.stateless_uniform([rows, NUMBERS_PER_VIEW], key)


class StoredImages(NamedTuple):
    """Images of different sizes, each in the upper left corner of a canvas.

    Attributes:
        pixels: The canvases, uint8 or float in [0, 255], [N, height, width, 3].
        shapes: Height and width of each image in pixels, float32 [N, 2].
    """

    pixels: tf.Tensor
    shapes: tf.Tensor

    @classmethod
    def whole(cls, pixels: tf.Tensor) -> "StoredImages":
        """Returns images that fill their canvas."""
        shape = tf.cast(tf.shape(pixels), tf.float32)
        return cls(pixels, tf.tile(shape[tf.newaxis, 1:3], [tf.shape(pixels)[0], 1]))

    def every(self, step: int, first: int) -> "StoredImages":
        """Returns every `step`-th image from the image with index `first` on."""
        return StoredImages(self.pixels[first::step], self.shapes[first::step])


def random_views(
    images: StoredImages,
    numbers: Sequence[tf.Tensor],
    settings: AugmentationSettings,
    size: tuple[int, int] | None = None,
) -> tf.Tensor:
    """Computes one or more views of each image in a single pass.

    Args:
        images: Images, from which the crops are taken.
        numbers: Uniform numbers in [0, 1) for each view, float32 [N, NUMBERS_PER_VIEW] each.
        settings: Strengths of the augmentation. Where they differ between two views, the views alternate.
        size: Height and width of the views; by default those of the canvas.

    Returns:
        float32 in [0, 1], [views * N, height, width, 3]: the first view of every image, then the second, and so on.
    """
    count = tf.shape(images.pixels)[0]
    drawn = tf.concat(list(numbers), axis=0)
    views = _crop(images, drawn, settings, size)
    views = _recolour(views, drawn, settings)
    if any(settings.blur):
        views = _blur(views, drawn, _probability_per_row(settings.blur, len(numbers), count), settings.blur_sigma)
    if any(settings.solarise):
        chosen = drawn[:, _SOLARISE] < _probability_per_row(settings.solarise, len(numbers), count)
        views = tf.where(_per_image(chosen) & (views > 0.5), 1.0 - views, views)
    return views


def _probability_per_row(probabilities: tuple[float, float], views: int, count: tf.Tensor) -> tf.Tensor:
    """Returns the probability that applies to each row of `random_views`, float32 [views * N]."""
    return tf.repeat(tf.constant([probabilities[view % 2] for view in range(views)]), count)


def _per_image(values: tf.Tensor) -> tf.Tensor:
    """Reshapes values [N] to [N, 1, 1, 1]."""
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]


def _between(numbers: tf.Tensor, column: int, low: float, high: float) -> tf.Tensor:
    return low + (high - low) * numbers[:, column]


def _crop(
    images: StoredImages, numbers: tf.Tensor, settings: AugmentationSettings, size: tuple[int, int] | None
) -> tf.Tensor:
    """Crops, resizes and flips images in one resampling; the result is in [0, 255].

    The share of the image's area is uniform in `crop_scale`. The ratio of width to height is log-uniform in the part
    of `crop_ratio` whose crops of that area fit into the image, and the place is uniform in the image. So every crop
    has the area that was drawn (arXiv 1409.4842, section 6, leaves open what becomes of crops that do not fit).

    An image of another ratio than the views may have no such crop, for instance one that is twice as wide as high, of
    which a square view would show 90 %. Its crop has the ratio in `crop_ratio` that is nearest to the image's, and is
    the largest one of this ratio.
    """
    image_indices = tf.range(tf.shape(numbers)[0]) % tf.shape(images.pixels)[0]
    shapes = tf.gather(images.shapes, image_indices)
    area = _between(numbers, _AREA, *settings.crop_scale)
    canvas = tf.cast(tf.shape(images.pixels)[1:3], tf.float32)
    view = canvas if size is None else tf.constant(size, tf.float32)
    # The image's ratio as a multiple of that of the views. A crop of this ratio has the same share of both sides.
    aspect = shapes[:, 1] * view[0] / (shapes[:, 0] * view[1])
    # The ratios at which the crop is as wide and as high as the image.
    low, high = (tf.clip_by_value(end, *settings.crop_ratio) for end in (aspect * area, aspect / area))
    ratio = low * tf.pow(high / low, numbers[:, _RATIO]) / aspect
    # Shares of the image's height and width.
    height = tf.minimum(tf.sqrt(area / ratio), tf.minimum(1.0 / ratio, 1.0))
    width = tf.minimum(tf.sqrt(area * ratio), tf.minimum(ratio, 1.0))
    top = numbers[:, _TOP] * (1.0 - height)
    left = numbers[:, _LEFT] * (1.0 - width)
    right = left + width
    if settings.flip:
        mirrored = numbers[:, _FLIP] < 0.5
        left, right = tf.where(mirrored, right, left), tf.where(mirrored, left, right)
    # Coordinates count from the centre of the first to the centre of the last pixel.
    ends = (shapes - 1.0) / tf.maximum(canvas - 1.0, 1.0)
    if size is not None and tuple(size) != tuple(images.pixels.shape[1:3]):
        # crop_and_resize adds up steps. A step whose rounding leads past the last pixel would give a black row.
        ends *= 1.0 - 1e-6
    down, across = tf.unstack(ends, axis=1)
    boxes = tf.stack([top * down, left * across, (top + height) * down, right * across], axis=1)
    # TensorFlow crops uint8 on a CPU only: a GPU would wait for the host and for the transfer of the views. Crops of
    # float32 have the same values.
    pixels = tf.cast(images.pixels, tf.float32)
    return tf.image.crop_and_resize(pixels, boxes, image_indices, size or tf.shape(pixels)[1:3])


def _recolour(views: tf.Tensor, numbers: tf.Tensor, settings: AugmentationSettings) -> tf.Tensor:
    """Changes all colours by one affine map of RGB for each image; maps [0, 255] to [0, 1]."""
    jittered = numbers[:, _JITTER] < settings.jitter

    def factor(column, strength):
        return tf.where(jittered, _between(numbers, column, 1 - strength, 1 + strength), 1.0)

    brightness, contrast = factor(_BRIGHTNESS, settings.brightness), factor(_CONTRAST, settings.contrast)
    offset = None
    if settings.contrast:
        # Contrast blends an image with its mean grey value, which neither hue nor saturation changes.
        mean_grey = tf.linalg.matvec(tf.reduce_mean(views, axis=[1, 2]), tf.constant(_LUMA, tf.float32))
        offset = (1 - contrast) * brightness * mean_grey / 255.0
    scale = contrast * brightness / 255.0
    if settings.hue or settings.saturation or settings.grey:
        views = _mix_channels(views, scale, numbers, factor(_SATURATION, settings.saturation), jittered, settings)
    else:
        views = views * _per_image(scale)
    if offset is not None:
        views += _per_image(offset)
    return tf.clip_by_value(views, 0.0, 1.0)


def _mix_channels(
    views: tf.Tensor,
    scale: tf.Tensor,
    numbers: tf.Tensor,
    saturation: tf.Tensor,
    jittered: tf.Tensor,
    settings: AugmentationSettings,
) -> tf.Tensor:
    """Applies hue, saturation and grey, which mix the channels, and multiplies by `scale`."""
    angle = tf.where(jittered, 2 * math.pi * settings.hue * (2 * numbers[:, _HUE] - 1), 0.0)[:, tf.newaxis, tf.newaxis]
    luma, chroma, rotated, to_grey = (
        tf.constant(part, tf.float32) for part in (_LUMA_PART, _CHROMA_PART, _ROTATED_PART, _TO_GREY)
    )
    hue = luma + tf.cos(angle) * chroma + tf.sin(angle) * rotated
    saturation = tf.where(numbers[:, _GREY] < settings.grey, 0.0, saturation)[:, tf.newaxis, tf.newaxis]
    # A rotation of the hue keeps the luma, so the grey value of the rotated colour is that of the colour.
    colour = (saturation * hue + (1 - saturation) * to_grey) * scale[:, tf.newaxis, tf.newaxis]
    shape = tf.shape(views)
    rows = tf.linalg.matmul(tf.reshape(views, [shape[0], -1, 3]), colour, transpose_b=True)
    return tf.reshape(rows, shape)


def _blur(views: tf.Tensor, numbers: tf.Tensor, probability: tf.Tensor, sigma: tuple[float, float]) -> tf.Tensor:
    """Applies a Gaussian blur that is normalised at the borders; sigma is in pixels of an image of 224 pixels."""
    size = tf.shape(views)
    width = _between(numbers, _SIGMA, *sigma) * tf.cast(size[1], tf.float32) / 224.0
    # A Gaussian as narrow as 0.001 pixels is the identity.
    width = tf.where(numbers[:, _BLUR] < probability, width, 1e-3)[:, tf.newaxis, tf.newaxis]

    def kernel(pixels):
        positions = tf.range(tf.cast(pixels, tf.float32))
        weights = tf.exp(-0.5 * tf.square((positions[:, tf.newaxis] - positions) / width))
        return weights / tf.reduce_sum(weights, axis=2, keepdims=True)

    vertical = tf.matmul(kernel(size[1]), tf.reshape(views, [size[0], size[1], -1]))
    return tf.einsum("nij,nhjc->nhic", kernel(size[2]), tf.reshape(vertical, size))
