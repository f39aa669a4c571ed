"""Hashes images to find those that occur more than once."""

import hashlib

import numpy as np
from PIL import Image

EXACT, LOOK = "exact", "look"
KINDS = (EXACT, LOOK)

# The least difference, of 255, between the brightest and the darkest part of an image: plainer images resemble many
# others.
_LEAST_CONTRAST = 8


def hashes(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Computes two hashes of each image.

    `exact` is a hash of the bytes. `look` is the difference hash: it says for each of 8 x 8 cells of the shrunken grey
    image whether the cell is brighter than its left neighbour. It survives recompression and resizing. The `look` of an
    image that is too plain to be distinguished is 0.

    Args:
        pixels: The images, uint8 [N, height, width, 3].

    Returns:
        The hashes, uint64 [N], by kind.
    """
    exact = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in pixels]
    shrunken = np.zeros([len(pixels), 8, 9], np.float32)
    for image, cells in zip(pixels, shrunken, strict=True):
        # Image by image, because ingest hashes single images; TensorFlow would take ten times as long for one.
        cells[:] = Image.fromarray(image).convert("L").convert("F").resize((9, 8), Image.Resampling.BOX)
    bits = shrunken[:, :, 1:] > shrunken[:, :, :-1]
    look = np.packbits(bits.reshape(len(pixels), 64), axis=1).view(np.uint64)[:, 0]
    plain = shrunken.max((1, 2)) - shrunken.min((1, 2)) < _LEAST_CONTRAST
    return {EXACT: np.frombuffer(b"".join(exact), np.uint64), LOOK: np.where(plain, np.uint64(0), look)}


def occur_in(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns which of `hashes`, uint64 [N], occur among `others`: bool [N]."""
    return np.isin(hashes, others) & (hashes != 0)
