"""Random views of images, in the graph, each sample with its own draw.

A view is a pure function of pixels and uniform numbers. The numbers come from (seed, step) alone and are drawn for the
global batch, of which each replica takes its rows: so one device and many see the same views, and a resumed run repeats
the interrupted one. Nothing here runs at inference.

Brightness, contrast, saturation, hue and grey are all linear in RGB, so their composition is one 3x3 matrix and one
offset per sample: a single pass over the pixels instead of five (Keras' layers make one or more each, and clip in
between; here the result is clipped once). A Gaussian blur is two products with banded matrices, one per sample.

Keras' preprocessing layers draw from generators of their own, so that views would depend on how many devices share a
batch, and could not be repeated. They are also 5 to 9 times slower on a CPU (python -m tests.benchmarks.augmentations).
"""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from trainer.config import AugmentationSettings

# Columns of the uniform numbers that one view consumes.
_AREA, _RATIO, _TOP, _LEFT, _FLIP, _BRIGHTNESS, _CONTRAST, _SATURATION, _HUE, _GREY = range(10)
_JITTER, _BLUR, _SIGMA, _SOLARISE = range(10, 14)
NUMBERS_PER_VIEW = 14

# Luma of ITU-R BT.601, and the YIQ colour space in whose chroma plane hue is an angle.
_LUMA = np.array([0.299, 0.587, 0.114])
_RGB_TO_YIQ = np.array([_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)
# A turn of hue by an angle is _LUMA_PART + cos(angle) * _CHROMA_PART + sin(angle) * _TURNED_PART on RGB.
_LUMA_PART = np.outer(_YIQ_TO_RGB[:, 0], _LUMA)
_CHROMA_PART = _YIQ_TO_RGB[:, 1:] @ _RGB_TO_YIQ[1:]
_TURNED_PART = _YIQ_TO_RGB[:, 1:] @ np.array([(0, -1), (1, 0)]) @ _RGB_TO_YIQ[1:]
_TO_GREY = np.tile(_LUMA, (3, 1))


def uniform_numbers(seed: int, stream: int, step: tf.Tensor, rows: int) -> tf.Tensor:
    """Uniform numbers in [0, 1) for `rows` views: float32 [rows, NUMBERS_PER_VIEW].

    Args:
        seed: of the run.
        stream: tells apart the uses of one step.
        step: scalar integer.
        rows: of the global batch, views included.
    """
    key = tf.stack([tf.constant(seed + (stream << 32), tf.int64), tf.cast(step, tf.int64)])
    return tf.random.stateless_uniform([rows, NUMBERS_PER_VIEW], key)


def random_views(
    images: tf.Tensor, numbers: Sequence[tf.Tensor], settings: AugmentationSettings, size: tuple[int, int] | None = None
) -> tf.Tensor:
    """Draws views of each image, all in one pass.

    Args:
        images: uint8 or float in [0, 255], [N, height, width, 3].
        numbers: for each view float32 [N, NUMBERS_PER_VIEW], uniform in [0, 1).
        settings: strengths; those that differ between two views alternate.
        size: height and width of the views; by default those of the images.

    Returns:
        float32 in [0, 1], [views * N, height, width, 3]: the first view of every image, then the second of every image.
    """
    count = tf.shape(images)[0]
    drawn = tf.concat(list(numbers), axis=0)
    views = _crop(images, drawn, settings, size)
    views = _recolour(views, drawn, settings)
    if any(settings.blur):
        views = _blur(views, drawn, _of_views(settings.blur, len(numbers), count), settings.blur_sigma)
    if any(settings.solarise):
        chosen = drawn[:, _SOLARISE] < _of_views(settings.solarise, len(numbers), count)
        views = tf.where(_per_image(chosen) & (views > 0.5), 1.0 - views, views)
    return views


def _of_views(probabilities: tuple[float, float], views: int, count: tf.Tensor) -> tf.Tensor:
    """The probability of each row of `random_views`."""
    return tf.repeat(tf.constant([probabilities[view % 2] for view in range(views)]), count)


def _per_image(values: tf.Tensor) -> tf.Tensor:
    """[N] to [N, 1, 1, 1]."""
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]


def _between(numbers: tf.Tensor, column: int, low: float, high: float) -> tf.Tensor:
    return low + (high - low) * numbers[:, column]


def _crop(
    images: tf.Tensor, numbers: tf.Tensor, settings: AugmentationSettings, size: tuple[int, int] | None
) -> tf.Tensor:
    """Random resized crop (Inception style: area uniform, ratio log-uniform) and flip, in one resampling; [0, 255]."""
    area = _between(numbers, _AREA, *settings.crop_scale)
    ratio = tf.exp(_between(numbers, _RATIO, math.log(settings.crop_ratio[0]), math.log(settings.crop_ratio[1])))
    height = tf.minimum(tf.sqrt(area / ratio), 1.0)
    width = tf.minimum(tf.sqrt(area * ratio), 1.0)
    top = numbers[:, _TOP] * (1.0 - height)
    left = numbers[:, _LEFT] * (1.0 - width)
    right = left + width
    if settings.flip:
        mirrored = numbers[:, _FLIP] < 0.5
        left, right = tf.where(mirrored, right, left), tf.where(mirrored, left, right)
    boxes = tf.stack([top, left, top + height, right], axis=1)
    places = tf.range(tf.shape(numbers)[0]) % tf.shape(images)[0]
    return tf.image.crop_and_resize(images, boxes, places, size or tf.shape(images)[1:3])


def _recolour(views: tf.Tensor, numbers: tf.Tensor, settings: AugmentationSettings) -> tf.Tensor:
    """Brightness, hue, saturation, grey and contrast as one affine map of RGB per sample; [0, 255] to [0, 1]."""
    jittered = numbers[:, _JITTER] < settings.jitter

    def factor(column, strength):
        return tf.where(jittered, _between(numbers, column, 1 - strength, 1 + strength), 1.0)

    brightness, contrast = factor(_BRIGHTNESS, settings.brightness), factor(_CONTRAST, settings.contrast)
    offset = None
    if settings.contrast:
        # Contrast blends with the mean grey of the recoloured image, which neither hue nor saturation change.
        mean_grey = tf.linalg.matvec(tf.reduce_mean(views, axis=[1, 2]), tf.constant(_LUMA, tf.float32))
        offset = (1 - contrast) * brightness * mean_grey / 255.0
    scale = contrast * brightness / 255.0
    if settings.hue or settings.saturation or settings.grey:
        views = _mixed(views, scale, numbers, factor(_SATURATION, settings.saturation), jittered, settings)
    else:
        views = views * _per_image(scale)
    if offset is not None:
        views += _per_image(offset)
    return tf.clip_by_value(views, 0.0, 1.0)


def _mixed(
    views: tf.Tensor,
    scale: tf.Tensor,
    numbers: tf.Tensor,
    saturation: tf.Tensor,
    jittered: tf.Tensor,
    settings: AugmentationSettings,
) -> tf.Tensor:
    """Hue, saturation and grey, which mix the channels, and a scale."""
    angle = tf.where(jittered, 2 * math.pi * settings.hue * (2 * numbers[:, _HUE] - 1), 0.0)[:, tf.newaxis, tf.newaxis]
    luma, chroma, turned, to_grey = (
        tf.constant(part, tf.float32) for part in (_LUMA_PART, _CHROMA_PART, _TURNED_PART, _TO_GREY)
    )
    hue = luma + tf.cos(angle) * chroma + tf.sin(angle) * turned
    saturation = tf.where(numbers[:, _GREY] < settings.grey, 0.0, saturation)[:, tf.newaxis, tf.newaxis]
    # A turned colour has the luma of the colour, so its grey is the colour's.
    colour = (saturation * hue + (1 - saturation) * to_grey) * scale[:, tf.newaxis, tf.newaxis]
    shape = tf.shape(views)
    rows = tf.linalg.matmul(tf.reshape(views, [shape[0], -1, 3]), colour, transpose_b=True)
    return tf.reshape(rows, shape)


def _blur(views: tf.Tensor, numbers: tf.Tensor, probability: tf.Tensor, sigma: tuple[float, float]) -> tf.Tensor:
    """Gaussian blur, whole and normalised at the borders; sigma is in pixels of an image of 224."""
    size = tf.shape(views)
    width = _between(numbers, _SIGMA, *sigma) * tf.cast(size[1], tf.float32) / 224.0
    # A Gaussian this narrow is the identity.
    width = tf.where(numbers[:, _BLUR] < probability, width, 1e-3)[:, tf.newaxis, tf.newaxis]

    def kernel(pixels):
        places = tf.range(tf.cast(pixels, tf.float32))
        weights = tf.exp(-0.5 * tf.square((places[:, tf.newaxis] - places) / width))
        return weights / tf.reduce_sum(weights, axis=2, keepdims=True)

    vertical = tf.matmul(kernel(size[1]), tf.reshape(views, [size[0], size[1], -1]))
    return tf.einsum("nij,nhjc->nhic", kernel(size[2]), tf.reshape(vertical, size))
