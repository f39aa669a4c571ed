"""Draws pictures of kinds that are hard or easy to tell from each other, and changes them as copies are changed."""

import io

import numpy as np
from PIL import Image, ImageDraw

#: Height and width of the pictures.
SIZE = 64


def texture(seed: int) -> Image.Image:
    """Stands for a photograph."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(small).resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def object_on_white(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (4 * SIZE, 4 * SIZE), "white")
    shape = [ImageDraw.ImageDraw.ellipse, ImageDraw.ImageDraw.rectangle][seed % 2]
    left, top, width, height = (
        rng.uniform(low, high) * picture.width for low, high in 2 * [(0.1, 0.4)] + 2 * [(0.2, 0.5)]
    )
    shape(ImageDraw.Draw(picture), [left, top, left + width, top + height], tuple(rng.integers(0, 220, 3).tolist()))
    return picture.resize((SIZE, SIZE), Image.Resampling.BOX)


def gradient(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    angle, (low, high) = rng.uniform(0, 2 * np.pi), np.sort(rng.integers(0, 256, (2, 3)), axis=0)
    share = (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5) + 0.75)[..., np.newaxis] / 1.5
    return Image.fromarray((low + (high - low) * share).astype(np.uint8))


def compressed(picture: Image.Image, quality: int = 75) -> Image.Image:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("RGB")


def cropped(picture: Image.Image, share: float, left: float = 0, top: float = 0) -> Image.Image:
    """Cuts off a share of the width and of the height, of which the shares `left` and `top` lie at these sides."""
    rest = (1 - share) * SIZE
    x, y = left * share * SIZE, top * share * SIZE
    return picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=(x, y, x + rest, y + rest))
