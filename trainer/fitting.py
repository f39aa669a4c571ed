"""Fits images of any size to the size that an encoder is trained on."""

import tensorflow as tf

#: Of an image that is longer than this number of times its shorter side, only the centre is used, here and by ingest:
#: the far ends would take gigabytes when the image is enlarged.
LONGEST_RATIO = 4


def fit(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resizes images until they cover `size` (bilinear, antialiased), and crops the centre.

    Args:
        images: Images of one size, uint8 [N, h, w, 3].
        size: Height and width of the result.

    Returns:
        float32 [N, height, width, 3] in [0, 255].
    """
    height, width = size
    longest = LONGEST_RATIO * tf.reduce_min(tf.shape(images)[1:3])
    top, left = (tf.maximum(tf.shape(images)[axis] - longest, 0) // 2 for axis in (1, 2))
    images = images[:, top : top + longest, left : left + longest, :]
    actual = tf.cast(tf.shape(images)[1:3], tf.float32)
    scale = tf.reduce_max(tf.constant([height, width], tf.float32) / actual)
    wanted = tf.maximum(tf.cast(tf.round(actual * scale), tf.int32), [height, width])
    resized = tf.cond(
        tf.reduce_all(wanted == tf.shape(images)[1:3]),
        lambda: tf.cast(images, tf.float32),
        lambda: tf.image.resize(images, wanted, antialias=True),
    )
    top, left = (wanted[0] - height) // 2, (wanted[1] - width) // 2
    cropped = resized[:, top : top + height, left : left + width, :]
    return tf.ensure_shape(cropped, [None, height, width, 3])
