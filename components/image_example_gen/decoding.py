"""Decodes picture files, without TensorFlow."""

import io

import numpy as np
from PIL import Image

from components.image_example_gen.sources.picture_formats import readable_formats

# A larger picture is refused: it is a decompression bomb, or a scan that was meant to be cut into pieces.
MOST_PIXELS = 100_000_000


class Undecodable(Exception):
    """A picture cannot become an example; the text gives the reason."""


def decode_file(content: bytes, size: int | None = None) -> np.ndarray:
    """Decodes the bytes of a picture file to uint8 [height, width, 3].

    It decodes as TensorFlow's own decoders do, so that training and serving see the same pixels: grey becomes three
    equal channels, an alpha channel is dropped, the transparent pixels of a GIF become black, 16 bits are scaled to 8,
    the first of several frames is taken, and an EXIF orientation is not applied.

    Args:
        content: The file's bytes.
        size: The length in pixels to which the shorter side will be resized. A JPEG file that is at least four times as
            large is decoded at a half, a quarter or an eighth of its size, which takes a fraction of the time.

    Raises:
        Undecodable: If the content is not a picture, if it is cut off, or if the picture is too large.
    """
    try:
        with Image.open(io.BytesIO(content), formats=readable_formats()) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Undecodable(f"{image.width}x{image.height} is more than {MOST_PIXELS:,} pixels")
            if size:
                # At least twice the final size remains, so that resizing still averages the pixels.
                image.draft("RGB", (2 * size, 2 * size))
            if image.mode.startswith("I"):
                return np.repeat(_as_8_bits(np.asarray(image))[:, :, np.newaxis], 3, axis=2)
            if image.mode == "F":
                raise Undecodable("its pixels are floating-point numbers: convert it to 8 or 16 bits")
            if image.format == "GIF" and image.has_transparency_data:
                # The colours of transparent pixels are arbitrary, and TensorFlow reads black.
                pixels = np.asarray(image.convert("RGBA"))
                return np.where(pixels[:, :, 3:] > 0, pixels[:, :, :3], np.uint8(0))
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
        raise Undecodable(str(error).replace(" <_io.BytesIO object", "").partition(" at 0x")[0]) from error


def _as_8_bits(grey: np.ndarray) -> np.ndarray:
    """Scales unsigned 16-bit values to 8 bits; Pillow also keeps them in wider integers."""
    if grey.min() < 0 or grey.max() > 0xFFFF:
        raise Undecodable("its pixels have more than 16 bits: convert it to 8 or 16 bits")
    return (grey >> 8).astype(np.uint8)
