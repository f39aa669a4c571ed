"""Hashes that tell whether an image occurs twice."""

import hashlib

import numpy as np
import tensorflow as tf

EXACT, LOOK = "exact", "look"
KINDS = (EXACT, LOOK)

# Of 255: what varies less from place to place looks like many others.
_LEAST_CONTRAST = 8


def hashes(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Two hashes of each image in uint8 [N, height, width, 3]: uint64 [N] each.

    `exact` is one of the bytes. `look` is the difference hash: whether each of 8 x 8 places of the shrunken grey image
    is brighter than its left neighbour. It survives recompression and resizing; 0 stands for images too plain to tell.
    """
    exact = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in pixels]
    grey = tf.image.rgb_to_grayscale(tf.cast(pixels, tf.float32))
    shrunken = tf.image.resize(grey, [8, 9], method="area").numpy()[..., 0]
    bits = shrunken[:, :, 1:] > shrunken[:, :, :-1]
    look = np.packbits(bits.reshape(len(pixels), 64), axis=1).view(np.uint64)[:, 0]
    plain = shrunken.max((1, 2)) - shrunken.min((1, 2)) < _LEAST_CONTRAST
    return {EXACT: np.frombuffer(b"".join(exact), np.uint64), LOOK: np.where(plain, np.uint64(0), look)}


def found_in(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of `hashes`, uint64 [N], occur among `others`: bool [N]."""
    return np.isin(hashes, others) & (hashes != 0)
