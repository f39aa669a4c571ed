"""Picture files of every form that ingest takes: colours, depths, palettes, transparency and frames of each format."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

_SIDE = 40
#: Forms that TensorFlow cannot decode, so that only MLflow's model of a release takes them.
NOT_SERVED = {"tiff", "tiff 16 bits", "avif", "bmp 1 bit", "bmp 16 bits", "webp animated", "webp animated alpha"}


def every_form() -> dict[str, bytes]:
    """Returns a file of each form. All show the same picture, of 40 x 40 pixels."""
    y, x = np.mgrid[:_SIDE, :_SIDE] / _SIDE
    # Smooth, so that the decoders of JPEG agree closely.
    pixels = (np.stack([y, x, (x + y) / 2], axis=-1) * 255).astype(np.uint8)
    colour, alpha = Image.fromarray(pixels), Image.fromarray((x * 255).astype(np.uint8))
    grey, palette = colour.convert("L"), colour.quantize(16)
    transparent, grey_alpha, other = colour.copy(), grey.copy(), colour.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    transparent.putalpha(alpha)
    grey_alpha.putalpha(alpha)
    deep = np.concatenate([pixels, pixels[:, :, :1]], axis=-1).astype(np.uint16) * 256 + 200
    animated = {"save_all": True, "append_images": [other]}
    files = {
        "jpeg": _saved(colour, "JPEG"),
        "jpeg grey": _saved(grey, "JPEG"),
        "jpeg progressive": _saved(colour, "JPEG", progressive=True),
        "jpeg cmyk": _saved(colour.convert("CMYK"), "JPEG"),
        "jpeg with a second frame": _saved(colour, "MPO", **animated),
        "png": _saved(colour, "PNG"),
        "png alpha": _saved(transparent, "PNG"),
        "png grey": _saved(grey, "PNG"),
        "png grey alpha": _saved(grey_alpha, "PNG"),
        "png palette": _saved(palette, "PNG"),
        "png palette transparent": _saved(palette, "PNG", transparency=3),
        "png 1 bit": _saved(grey.convert("1"), "PNG"),
        "png animated": _saved(colour, "PNG", **animated),
        "gif": _saved(colour, "GIF"),
        "gif transparent": _saved(palette, "GIF", transparency=3),
        "gif animated": _saved(colour, "GIF", **animated),
        "bmp": _saved(colour, "BMP"),
        "bmp alpha": _saved(transparent, "BMP"),
        "bmp grey": _saved(grey, "BMP"),
        "bmp palette": _saved(palette, "BMP"),
        "bmp 1 bit": _saved(grey.convert("1"), "BMP"),
        "bmp 16 bits": _bmp_of_16_bits(pixels),
        "webp": _saved(colour, "WEBP"),
        "webp lossless": _saved(colour, "WEBP", lossless=True),
        "webp alpha": _saved(transparent, "WEBP"),
        "webp alpha lossless": _saved(transparent, "WEBP", lossless=True),
        "webp animated": _saved(colour, "WEBP", **animated),
        "webp animated alpha": _saved(transparent, "WEBP", **animated),
        "tiff": _saved(colour, "TIFF"),
        "tiff 16 bits": _saved(Image.fromarray(deep[:, :, 0]), "TIFF"),
        "avif": _saved(colour, "AVIF"),
    }
    for channels, name in enumerate(("grey", "grey alpha", "colour", "alpha"), start=1):
        files[f"png {name} 16 bits"] = tf.io.encode_png(deep[:, :, :channels]).numpy()
    return files


def _saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _bmp_of_16_bits(pixels: np.ndarray) -> bytes:
    """Returns a BMP file with 5 bits for each colour, which Pillow reads and does not write."""
    red, green, blue = (pixels[::-1].astype(np.uint16) >> 3).transpose(2, 0, 1)
    body = (red << 10 | green << 5 | blue).astype("<u2").tobytes()
    numbers = [54 + len(body), 0, 54, 40, _SIDE, _SIDE, 1 | 16 << 16, 0, len(body), 0, 0, 0, 0]
    return b"BM" + np.array(numbers, "<u4").tobytes() + body
