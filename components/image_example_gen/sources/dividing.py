"""Divides labelled pictures into `train` and `test` by their contents."""

import contextlib
import hashlib
from collections.abc import Iterable

from components.image_example_gen.config import SplitShares
from trainer import splits


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
    import numpy as np

    from components.image_example_gen import duplicates

    keys = {name: _key(content) for name, content in pictures}
    looks = np.array(sorted({key for key in keys.values() if isinstance(key, int)}), np.uint64)
    groups = dict(zip(looks.tolist(), duplicates.group(looks).tolist(), strict=True))
    return {name: _drawn(groups[key] if isinstance(key, int) else key, shares) for name, key in keys.items()}


def _drawn(key: int | bytes, shares: SplitShares) -> str:
    content = key.to_bytes(8, "little") if isinstance(key, int) else key
    number = int.from_bytes(hashlib.sha256(content).digest()[:8], "little") / 2**64
    return splits.TRAIN if number < shares.train else splits.TEST


def _key(content: bytes) -> int | bytes:
    """Returns the picture's look; a digest of the file if it is too plain to have one, or cannot be decoded."""
    from components.image_example_gen import decoding, duplicates

    look = duplicates.NO_LOOK
    # A file that cannot be decoded needs a split, too, so that ingest can reject it by name.
    with contextlib.suppress(decoding.Undecodable):
        look = int(duplicates.hashes(decoding.decode_file(content)[None])[duplicates.LOOK][0])
    return hashlib.sha256(content).digest() if look == duplicates.NO_LOOK else look
