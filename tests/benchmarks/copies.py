"""How often copies of pictures are found by their look, and how often different pictures are taken for copies.

    python -m tests.benchmarks.copies PHOTOGRAPHS

PHOTOGRAPHS is a folder with at least 4,000 different pictures, also in folders within it. Prints the shares that the
search for copies finds of 1,000 changed photographs, the number of pictures that it accuses of 1,000 that are compared
with 3,000 different ones of their kind, and the time that 10,000 hashes take among 100,000.
"""

import argparse
import functools
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from components.image_example_gen import duplicates
from tests.components.drawings import SIZE, compressed, cropped, gradient, object_on_white

_PICTURES, _OTHERS = 1_000, 3_000
_RNG = np.random.default_rng(0)


def _cropped_and_compressed(share: float, picture: Image.Image) -> Image.Image:
    return compressed(cropped(picture, share, *_RNG.random(2)))


_CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "compressed (JPEG, quality 75)": compressed,
    "compressed (JPEG, quality 20)": lambda picture: compressed(picture, 20),
    "half the size, compressed": lambda picture: compressed(picture.resize((SIZE // 2, SIZE // 2))).resize(
        (SIZE, SIZE)
    ),
    "brighter by 20 %, compressed": lambda picture: compressed(picture.point(lambda value: min(255, 1.2 * value))),
    **{
        f"cropped by {share:.0%}, compressed": functools.partial(_cropped_and_compressed, share)
        for share in (0.01, 0.02, 0.03, 0.05, 0.1)
    },
}


def _looks(pictures: Iterable[Image.Image]) -> np.ndarray:
    return duplicates.hashes(np.stack([np.asarray(picture) for picture in pictures]))[duplicates.LOOK]


def _photographs(folder: Path) -> list[Image.Image]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    chosen = _RNG.permutation(len(files))[: _PICTURES + _OTHERS]
    return [Image.open(files[i]).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC) for i in chosen]


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    photographs = _photographs(parser.parse_args().photographs)
    ours = _looks(photographs[:_PICTURES])
    print(f"{'change':36}{'found':>8}{'equal hash':>12}")
    for change, make in _CHANGES.items():
        theirs = _looks(make(picture) for picture in photographs[:_PICTURES])
        with_look = (ours != duplicates.NO_LOOK) & (theirs != duplicates.NO_LOOK)
        bits = np.where(with_look, np.bitwise_count(ours ^ theirs), 64)
        print(f"{change:36}{np.mean(bits <= duplicates.MOST_DIFFERENT_BITS):>8.1%}{np.mean(bits == 0):>12.1%}")

    print(f"\n{'different pictures':36}{'accused':>8}{'with a look':>12}")
    kinds = {"photographs": (ours, _looks(photographs[_PICTURES:]))}
    for name, draw in {"objects on white": object_on_white, "gradients": gradient}.items():
        looks = _looks(draw(i) for i in range(_PICTURES + _OTHERS))
        kinds[name] = (looks[:_PICTURES], looks[_PICTURES:])
    for kind, (these, those) in kinds.items():
        found, _ = duplicates.look_alike(these, those)
        print(f"{kind:36}{len(found.rows):>8,}{np.mean(these != duplicates.NO_LOOK):>12.1%}")

    hashes = {
        "different": _RNG.integers(1, 2**63, 110_000, np.uint64),
        "equal": np.full(110_000, 2**40 + 1, np.uint64),
    }
    print(f"\n{'10,000 hashes among 100,000':36}{'seconds':>8}")
    for name, looks in hashes.items():
        start = time.perf_counter()
        duplicates.look_alike(looks[:10_000], looks[10_000:])
        print(f"{name:36}{time.perf_counter() - start:>8.2f}")


if __name__ == "__main__":
    main()
