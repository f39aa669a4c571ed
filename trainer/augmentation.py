"""Random views of images, in the graph, each sample with its own draw.

A view is a pure function of pixels and uniform numbers. The numbers come from (seed, step) alone and are drawn for the
global batch, of which each replica takes its rows: so one device and many see the same views, and a resumed run repeats
the interrupted one. Nothing here runs at inference.

Brightness, contrast, saturation, hue and grey are all linear in RGB, so their composition is one 3x3 matrix and one
offset per sample: a single pass over the pixels instead of five (Keras' layers make one or more each, and clip in
between; here the result is clipped once).
"""

import math

import tensorflow as tf

from trainer.config import Augmentation

# Columns of the uniform numbers that one view consumes.
_AREA, _RATIO, _TOP, _LEFT, _FLIP, _BRIGHTNESS, _CONTRAST, _SATURATION, _HUE, _GREY = range(10)
NUMBERS_PER_VIEW = 10

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


def random_views(images: tf.Tensor, numbers: tf.Tensor, settings: Augmentation) -> tf.Tensor:
    """Draws one view of each image.

    Args:
        images: uint8 or float in [0, 255], [N, height, width, 3].
        numbers: float32 [N, NUMBERS_PER_VIEW], uniform in [0, 1).
        settings: strengths.

    Returns:
        float32 in [0, 1], [N, height, width, 3].
    """
    views = _crop(images, numbers, settings) / 255.0
    if settings.brightness or settings.contrast or settings.saturation or settings.hue or settings.grey:
        views = _recolour(views, numbers, settings)
    return views


def _between(numbers: tf.Tensor, column: int, low: float, high: float) -> tf.Tensor:
    return low + (high - low) * numbers[:, column]


def _crop(images: tf.Tensor, numbers: tf.Tensor, settings: Augmentation) -> tf.Tensor:
    """Random resized crop (Inception style: area uniform, ratio log-uniform) and flip, in one resampling."""
    size = tf.shape(images)[1:3]
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
    return tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), size)


def _recolour(views: tf.Tensor, numbers: tf.Tensor, settings: Augmentation) -> tf.Tensor:
    """Brightness, hue, saturation, grey and contrast as one affine map of RGB per sample; clipped to [0, 1]."""
    to_yiq = tf.constant(_RGB_TO_YIQ)
    to_grey = tf.tile(tf.constant([_LUMA]), [3, 1])

    angle = 2 * math.pi * settings.hue * (2 * numbers[:, _HUE] - 1)
    cos, sin, one, zero = tf.cos(angle), tf.sin(angle), tf.ones_like(angle), tf.zeros_like(angle)
    rotation = tf.reshape(tf.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], axis=1), [-1, 3, 3])
    colour = tf.linalg.inv(to_yiq) @ rotation @ to_yiq

    saturation = _between(numbers, _SATURATION, 1 - settings.saturation, 1 + settings.saturation)
    saturation = tf.where(numbers[:, _GREY] < settings.grey, 0.0, saturation)[:, tf.newaxis, tf.newaxis]
    colour = (saturation * tf.eye(3) + (1 - saturation) * to_grey) @ colour

    brightness = _between(numbers, _BRIGHTNESS, 1 - settings.brightness, 1 + settings.brightness)
    colour *= brightness[:, tf.newaxis, tf.newaxis]

    # Contrast blends with the mean grey of the recoloured image, which is linear too: (M c) . luma.
    contrast = _between(numbers, _CONTRAST, 1 - settings.contrast, 1 + settings.contrast)[:, tf.newaxis]
    mean = tf.reduce_mean(views, axis=[1, 2])
    mean_grey = tf.einsum("nij,nj,i->n", colour, mean, tf.constant(_LUMA))[:, tf.newaxis]
    offset = (1 - contrast) * mean_grey
    colour *= contrast[:, :, tf.newaxis]

    shape = tf.shape(views)
    rows = tf.reshape(views, [shape[0], -1, 3])
    rows = tf.linalg.matmul(rows, colour, transpose_b=True) + offset[:, tf.newaxis, :]
    return tf.reshape(tf.clip_by_value(rows, 0.0, 1.0), shape)
