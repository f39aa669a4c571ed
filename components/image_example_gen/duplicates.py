"""Hashes images, and finds those that occur more than once: identical ones, and ones that look alike."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

EXACT, LOOK = "exact", "look"
KINDS = (EXACT, LOOK)
#: The `look` of an image that is too plain for one.
NO_LOOK = 0

# The perceptual hash shrinks an image to 32 x 32 grey cells, and keeps the 8 x 8 lowest frequencies of their cosine
# transform except for the lowest one, the mean brightness.
_CELLS, _FREQUENCIES = 32, 8
_WAVES = np.cos(np.pi / _CELLS * np.outer(np.arange(_FREQUENCIES), np.arange(_CELLS) + 0.5)).astype(np.float32)

# Two images look alike if at most this number of the 63 bits differ. Nearly all pairs of CIFAR-10 within this distance
# show one photograph; at 6 bits one in five does not.
MOST_DIFFERENT_BITS = 4

# An image has a look if, shrunk to 8 x 8 cells, at least so many cells are clearly brighter or clearly darker than both
# of their neighbours in the row or in the column. 99 % of photographs have as many. Plain objects on white and
# gradients have fewer, and different ones often have the same hash.
_MEANS = np.repeat(np.eye(8, dtype=np.float32), 4, axis=1) / 4
_LEAST_TURNS = 10
# Of 255.
_CLEAR = 3.0

# Of two hashes that differ in at most four bits, at least one of five groups of bits is equal. A group contains every
# fifth bit, because low frequencies differ less from image to image than high ones do.
_GROUPS = MOST_DIFFERENT_BITS + 1
_MASKS = np.array([sum(1 << bit for bit in range(group, 64, _GROUPS)) for group in range(_GROUPS)], np.uint64)
# The number of hashes that one hash is compared with at a time, which grows, and the number of comparisons at a time.
_NARROWEST, _WIDEST, _AT_ONCE = 16, 1_024, 2**19

# A look is common if more images of a split have it than this number, and than this share of the split.
_COMMON_IMAGES, _COMMON_SHARE = 20, 0.01
# To group images, it is enough to know so many that look like each one.
_FOLLOWED = 256


class Pairs(NamedTuple):
    """Images that look alike.

    Attributes:
        rows: Row numbers among the one set of images, int64 [n].
        others: Row numbers among the other set, int64 [n].
        bits: The number of bits in which the hashes differ, int64 [n].
    """

    rows: np.ndarray
    others: np.ndarray
    bits: np.ndarray


def hashes(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Computes two hashes of each image.

    `exact` is a hash of the bytes. `look` is the perceptual hash of the image's lowest frequencies (Zauner 2010), which
    changes by a few bits if the image is compressed, resized, made brighter, or cropped by one or two per cent. The
    `look` of an image that is too plain to be told from others is `NO_LOOK`.

    Args:
        pixels: The images, uint8 [N, height, width, 3].

    Returns:
        The hashes, uint64 [N], by kind.
    """
    exact = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in pixels]
    cells = np.empty([len(pixels), _CELLS, _CELLS], np.float32)
    for image, shrunken in zip(pixels, cells, strict=True):
        # Image by image, because ingest hashes single images; TensorFlow would take ten times as long for one.
        shrunken[:] = Image.fromarray(image).convert("L").resize((_CELLS, _CELLS), Image.Resampling.BOX)
    return {
        EXACT: np.frombuffer(b"".join(exact), np.uint64),
        LOOK: np.where(_turns(cells) < _LEAST_TURNS, np.uint64(NO_LOOK), _looks(cells)),
    }


def _looks(cells: np.ndarray) -> np.ndarray:
    """Returns the perceptual hash, uint64 [N], of grey cells, float32 [N, 32, 32]."""
    bits = np.zeros([len(cells), _FREQUENCIES**2], bool)
    waves = (_WAVES @ cells @ _WAVES.T).reshape(bits.shape)[:, 1:]
    middle = waves.shape[1] // 2
    # np.median takes ten times as long.
    bits[:, 1:] = waves > np.partition(waves, middle)[:, middle, np.newaxis]
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def _turns(cells: np.ndarray) -> np.ndarray:
    """Counts the coarse cells of each image that are clearly brighter or clearly darker than both neighbours: int [N].

    A cell counts twice if that is so in its row and in its column.
    """
    coarse = _MEANS @ cells @ _MEANS.T
    steps = np.diff(np.stack([coarse, coarse.transpose(0, 2, 1)], axis=1))
    rises, falls = steps >= _CLEAR, steps <= -_CLEAR
    turns = (rises[..., 1:] & falls[..., :-1]) | (falls[..., 1:] & rises[..., :-1])
    return np.count_nonzero(turns, axis=(1, 2, 3))


def identical(hashes: np.ndarray, others: np.ndarray) -> Pairs:
    """Finds an identical image of another split for each image of a split.

    Args:
        hashes: The `exact` hash of each image of the split, uint64 [N].
        others: The `exact` hash of each image of the other split, uint64 [M].

    Returns:
        One pair for each image of the split that occurs in the other one, in ascending order of `rows`.
    """
    rows = np.flatnonzero(np.isin(hashes, others))
    order = np.argsort(others, kind="stable")
    return Pairs(rows, order[np.searchsorted(others[order], hashes[rows])], np.zeros(len(rows), int))


def look_alike(looks: np.ndarray, others: np.ndarray) -> tuple[Pairs, np.ndarray]:
    """Finds the image of another split that looks most like each image of a split.

    Images with a look that is common in one of the splits are set apart: forms, scans or objects in one pose look alike
    without being copies.

    Args:
        looks: The `look` of each image of the split, uint64 [N].
        others: The `look` of each image of the other split, uint64 [M].

    Returns:
        One pair for each image of the split that has one, in ascending order of `rows`; and the row numbers of the
        images that look like one of the other split but have a common look.
    """
    found, common = _nearest(looks, others)
    # Only these can be common in their own split, too; every image looks like itself.
    _, common_here = _nearest(looks[found.rows], looks)
    common = common[found.rows] | common_here
    return Pairs(*(column[~common] for column in found)), found.rows[common]


def group(looks: np.ndarray) -> np.ndarray:
    """Groups images so that those that look alike are in one group, also if others connect them.

    Args:
        looks: The `look` of each image, uint64 [N], none of them `NO_LOOK`.

    Returns:
        The least `look` in the group of each image, uint64 [N].
    """
    groups = np.arange(len(looks))
    for pairs in _alike(looks, looks, _FOLLOWED):
        edges = (np.ones(len(pairs.rows), bool), (groups[pairs.rows], groups[pairs.others]))
        groups = connected_components(coo_array(edges, shape=2 * (len(looks),)), directed=False)[1][groups]
    least = np.full(len(looks), np.iinfo(np.uint64).max)
    np.minimum.at(least, groups, looks)
    return least[groups]


def _nearest(looks: np.ndarray, others: np.ndarray) -> tuple[Pairs, np.ndarray]:
    """Returns the nearest of `others` for each of `looks` that is like one, and whether each is common in `others`."""
    most = max(_COMMON_IMAGES, int(_COMMON_SHARE * len(others)))
    counts, match = np.zeros(len(looks), int), np.zeros(len(looks), int)
    fewest = np.full(len(looks), MOST_DIFFERENT_BITS + 1)
    for pairs in _alike(looks, others, most):
        np.add.at(counts, pairs.rows, 1)
        nearer = pairs.bits < fewest[pairs.rows]
        # The last value that is assigned to a row remains: the fewest bits.
        order = np.argsort(-pairs.bits[nearer], kind="stable")
        rows = pairs.rows[nearer][order]
        match[rows], fewest[rows] = pairs.others[nearer][order], pairs.bits[nearer][order]
    rows = np.flatnonzero(counts)
    return Pairs(rows, match[rows], fewest[rows]), counts > most


def _alike(looks: np.ndarray, others: np.ndarray, enough: int) -> Iterator[Pairs]:
    """Yields all pairs that look alike, each once, in parts that fit into memory.

    After more than `enough` pairs of a row, further ones of that row may be missing: if all images look alike, this
    limits the time.
    """
    found = np.zeros(len(looks), int)
    with_look = np.flatnonzero(others != NO_LOOK)
    for number, mask in enumerate(_MASKS):
        order = with_look[np.argsort(others[with_look] & mask)]
        candidates = others[order]
        starts, ends = (np.searchsorted(candidates & mask, looks & mask, side) for side in ("left", "right"))
        candidates = np.append(candidates, np.full(_WIDEST, NO_LOOK, np.uint64))
        width = _NARROWEST
        while len(waiting := np.flatnonzero((starts < ends) & (looks != NO_LOOK) & (found <= enough))):
            for first in range(0, len(waiting), _AT_ONCE // width):
                rows = waiting[first : first + _AT_ONCE // width]
                columns = starts[rows, np.newaxis] + np.arange(width)
                different = candidates[columns] ^ looks[rows, np.newaxis]
                bits = np.bitwise_count(different)
                # Few pairs are left after this comparison, so the other conditions cost little.
                row, column = np.nonzero(bits <= MOST_DIFFERENT_BITS)
                position, different, bits = columns[row, column], different[row, column], bits[row, column].astype(int)
                new = position < ends[rows[row]]
                for earlier in _MASKS[:number]:
                    # If an earlier group of bits is equal, the pair was found there.
                    new &= different & earlier != 0
                pairs = Pairs(rows[row[new]], order[position[new]], bits[new])
                np.add.at(found, pairs.rows, 1)
                yield pairs
            starts[waiting] += width
            width = min(2 * width, _WIDEST)
