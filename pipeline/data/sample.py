"""The embedded sample: a data set in STL-10's layout, drawn from the images that scikit-learn contains.

It is the same on every machine. It shows scikit-learn's handwritten digits in random colour, size, rotation and
position on textures that are cut from scikit-learn's two photographs. It is small enough for a demo, and difficult
enough to distinguish a trained encoder from an untrained one. It also exposes shortcuts: an encoder that matches views
by their background or colour learns nothing about digits.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from components.image_example_gen import stl10
from trainer import aside

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COUNTS = {"unlabelled": 6_000, "train": 1_500, "test": 1_000}
FOLDS = 10

_TEST_DIGITS = 500
_CHUNK = 250


def write_sample(
    directory: Path, on_progress: Callable[[int], None] = lambda images: None, counts: dict[str, int] = COUNTS
) -> None:
    """Writes the sample (230 MB by default) in STL-10's binary layout.

    The directory appears only when it is complete.

    Args:
        directory: The directory to create. It must be missing or empty.
        on_progress: Called with the number of images that were written since the last call.
        counts: The number of images in each split.
    """
    from sklearn import datasets

    digits = datasets.load_digits()
    photographs = [datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    rng = np.random.default_rng(0)
    # No digit of the test split occurs in another split, so that recognising it takes more than memory.
    order = rng.permutation(len(digits.images))
    drawable = {"test": order[:_TEST_DIGITS], "train": order[_TEST_DIGITS:], "unlabelled": order[_TEST_DIGITS:]}

    unfinished = Path(aside.beside(str(directory)))
    unfinished.mkdir(parents=True)
    try:
        for split, images_file, labels_file in (
            ("unlabelled", stl10.UNLABELLED_IMAGES, None),
            ("train", stl10.TRAIN_IMAGES, stl10.TRAIN_LABELS),
            ("test", stl10.TEST_IMAGES, stl10.TEST_LABELS),
        ):
            chosen = rng.choice(drawable[split], counts[split])
            with open(unfinished / images_file, "wb") as file:
                for start in range(0, len(chosen), _CHUNK):
                    chunk = chosen[start : start + _CHUNK]
                    images = [_draw(digits.images[i], photographs[rng.integers(2)], rng) for i in chunk]
                    file.write(stl10.encode_images(np.stack(images)))
                    on_progress(len(chunk))
            if labels_file:
                (digits.target[chosen] + 1).astype(np.uint8).tofile(unfinished / labels_file)
        train = counts["train"]
        # Like the folds of STL-10, each holds a fifth of the training images.
        folds = [np.sort(rng.choice(train, train // 5, replace=False)) for _ in range(FOLDS)]
        (unfinished / stl10.FOLD_INDICES).write_text("".join(" ".join(map(str, fold)) + "\n" for fold in folds))
        (unfinished / stl10.CLASS_NAMES).write_text("".join(f"{name}\n" for name in NAMES))
        unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _draw(digit: np.ndarray, photograph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws a digit on a texture.

    Args:
        digit: Float [8, 8] with values from 0 to 16.
        photograph: Uint8 [height, width, 3] to cut the texture from.
        rng: Source of all random choices.

    Returns:
        Uint8 [96, 96, 3].
    """
    size = stl10.SIZE
    texture = _texture(photograph, rng)
    side = int(rng.integers(72, size + 1))
    stencil = Image.fromarray((digit * (255 / 16)).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    stencil = stencil.rotate(rng.uniform(-20, 20), Image.Resampling.BICUBIC)
    left, top = rng.integers(0, size - side + 1, 2)
    mask = Image.new("L", (size, size))
    mask.paste(stencil, (int(left), int(top)))
    opacity = np.asarray(mask, np.float32)[:, :, np.newaxis] / 255
    colour = _colour_apart_from(texture.mean(axis=(0, 1)), rng)
    return np.round(opacity * colour + (1 - opacity) * texture).astype(np.uint8)


def _texture(photograph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Enlarges a random patch of 16 to 40 pixels to float32 [96, 96, 3]."""
    height, width, _ = photograph.shape
    side = int(rng.integers(16, 41))
    top, left = rng.integers(0, height - side), rng.integers(0, width - side)
    patch = Image.fromarray(photograph[top : top + side, left : left + side])
    return np.asarray(patch.resize((stl10.SIZE, stl10.SIZE), Image.Resampling.BICUBIC), np.float32)


def _colour_apart_from(background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a random colour that clearly differs from the mean colour of the background."""
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.abs(colour - background).mean() > 64:
            return colour
