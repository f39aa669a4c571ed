"""Divides labelled pictures into `train` and `test` by their contents."""

import contextlib
import hashlib
from collections.abc import Iterable

from components.image_example_gen.config import SplitShares
from trainer import splits

# Two pictures look alike if their difference hashes of 64 bits differ in at most this number of bits: two files of one
# photograph, compressed or resized in different ways.
_MOST_DIFFERENT_BITS = 4
_BITS = 64


def divide(pictures: Iterable[tuple[str, bytes]], shares: SplitShares) -> dict[str, str]:
    """Decides whether each picture is trained on or tested on.

    Pictures that look alike are in the same split. Neither names nor the order of the pictures matter, and further
    pictures change an earlier decision only if they look like two earlier pictures of different splits.

    Args:
        pictures: Name and content of each picture's file.
        shares: The shares of the splits.

    Returns:
        The split of each picture by its name.
    """
    keys = {name: _key(content) for name, content in pictures}
    groups = _groups({key for key in keys.values() if isinstance(key, int)})
    return {name: _drawn(groups.get(key, key) if isinstance(key, int) else key, shares) for name, key in keys.items()}


def _drawn(key: int | bytes, shares: SplitShares) -> str:
    content = key.to_bytes(_BITS // 8, "little") if isinstance(key, int) else key
    number = int.from_bytes(hashlib.sha256(content).digest()[:8], "little") / 2**64
    return splits.TRAIN if number < shares.train else splits.TEST


def _key(content: bytes) -> int | bytes:
    """Returns the picture's difference hash; a digest if it is too plain to have one, or cannot be decoded."""
    from components.image_example_gen import duplicates, encoding

    look = 0
    # A file that cannot be decoded needs a split, too, so that ingest can reject it by name.
    with contextlib.suppress(encoding.Undecodable):
        look = int(duplicates.hashes(encoding.decode_file(content)[None])[duplicates.LOOK][0])
    return look or hashlib.sha256(content).digest()


def _groups(looks: set[int]) -> dict[int, int]:
    """Returns the least difference hash of the group of each one; hashes that look alike are in one group."""
    parents = {look: look for look in looks}

    def root(look: int) -> int:
        while parents[look] != look:
            parents[look] = parents[parents[look]]
            look = parents[look]
        return look

    # Of two hashes that differ in few bits, at least one band of bits is equal.
    bands = _MOST_DIFFERENT_BITS + 1
    width = -(-_BITS // bands)
    for band in range(bands):
        candidates: dict[int, list[int]] = {}
        for look in looks:
            candidates.setdefault(look >> (band * width) & ((1 << width) - 1), []).append(look)
        for alike in candidates.values():
            for number, look in enumerate(alike):
                for other in alike[number + 1 :]:
                    if (look ^ other).bit_count() <= _MOST_DIFFERENT_BITS:
                        least, most = sorted((root(look), root(other)))
                        parents[most] = least
    return {look: root(look) for look in looks}
