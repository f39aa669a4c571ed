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

import tensorflow as tf

from trainer.config import Augmentation

# Columns of the uniform numbers that one view consumes.
_AREA, _RATIO, _TOP, _LEFT, _FLIP, _BRIGHTNESS, _CONTRAST, _SATURATION, _HUE, _GREY = range(10)
_JITTER, _BLUR, _SIGMA, _SOLARISE = range(10, 14)
NUMBERS_PER_VIEW = 14

# Luma of ITU-R BT.601, and the YIQ colour space in whose chroma plane hue is an angle.
_LUMA = (0.299, 0.587, 0.114)
_RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


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
    images: tf.Tensor, numbers: tf.Tensor, settings: Augmentation, view: int = 0, size: tuple[int, int] | None = None
) -> tf.Tensor:
    """Draws one view of each image.

    Args:
        images: uint8 or float in [0, 255], [N, height, width, 3].
        numbers: float32 [N, NUMBERS_PER_VIEW], uniform in [0, 1).
        settings: strengths.
        view: 0 or 1, for the strengths that differ between the two.
        size: height and width of the views; by default those of the images.

    Returns:
        float32 in [0, 1], [N, height, width, 3].
    """
    views = _crop(images, numbers, settings, size) / 255.0
    if settings.brightness or settings.contrast or settings.saturation or settings.hue or settings.grey:
        views = _recolour(views, numbers, settings)
    if settings.blur[view]:
        views = _blur(views, numbers, settings.blur[view], settings.blur_sigma)
    if settings.solarise[view]:
        inverted = (numbers[:, _SOLARISE] < settings.solarise[view])[:, tf.newaxis, tf.newaxis, tf.newaxis]
        views = tf.where(inverted & (views > 0.5), 1.0 - views, views)
    return views


def _between(numbers: tf.Tensor, column: int, low: float, high: float) -> tf.Tensor:
    return low + (high - low) * numbers[:, column]


def _crop(images: tf.Tensor, numbers: tf.Tensor, settings: Augmentation, size: tuple[int, int] | None) -> tf.Tensor:
    """Random resized crop (Inception style: area uniform, ratio log-uniform) and flip, in one resampling."""
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
    return tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), size or tf.shape(images)[1:3])


def _recolour(views: tf.Tensor, numbers: tf.Tensor, settings: Augmentation) -> tf.Tensor:
    """Brightness, hue, saturation, grey and contrast as one affine map of RGB per sample; clipped to [0, 1]."""
    to_yiq = tf.constant(_RGB_TO_YIQ)
    to_grey = tf.tile(tf.constant([_LUMA]), [3, 1])

    jittered = numbers[:, _JITTER] < settings.jitter
    angle = tf.where(jittered, 2 * math.pi * settings.hue * (2 * numbers[:, _HUE] - 1), 0.0)
    cos, sin, one, zero = tf.cos(angle), tf.sin(angle), tf.ones_like(angle), tf.zeros_like(angle)
    rotation = tf.reshape(tf.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], axis=1), [-1, 3, 3])
    colour = tf.linalg.inv(to_yiq) @ rotation @ to_yiq

    def factor(column, strength):
        return tf.where(jittered, _between(numbers, column, 1 - strength, 1 + strength), 1.0)

    saturation = tf.where(numbers[:, _GREY] < settings.grey, 0.0, factor(_SATURATION, settings.saturation))
    saturation = saturation[:, tf.newaxis, tf.newaxis]
    colour = (saturation * tf.eye(3) + (1 - saturation) * to_grey) @ colour
    colour *= factor(_BRIGHTNESS, settings.brightness)[:, tf.newaxis, tf.newaxis]

    # Contrast blends with the mean grey of the recoloured image, which is linear too: (M c) . luma.
    contrast = factor(_CONTRAST, settings.contrast)[:, tf.newaxis]
    mean = tf.reduce_mean(views, axis=[1, 2])
    mean_grey = tf.einsum("nij,nj,i->n", colour, mean, tf.constant(_LUMA))[:, tf.newaxis]
    offset = (1 - contrast) * mean_grey
    colour *= contrast[:, :, tf.newaxis]

    shape = tf.shape(views)
    rows = tf.reshape(views, [shape[0], -1, 3])
    rows = tf.linalg.matmul(rows, colour, transpose_b=True) + offset[:, tf.newaxis, :]
    return tf.reshape(tf.clip_by_value(rows, 0.0, 1.0), shape)


def _blur(views: tf.Tensor, numbers: tf.Tensor, probability: float, sigma: tuple[float, float]) -> tf.Tensor:
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
