"""Small versions of pictures for a page."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from components.image_example_gen import decoding
from components.image_example_gen.sources import files
from components.pages.pictures import data_uri
from trainer.errors import DataError
from trainer.progress import Reporter

# The longest side in pixels, and how many files are read at a time, since those of a bucket are waited for.
_SIDE, _AT_A_TIME = 160, 8


def thumbnails(paths: Iterable[str | None]) -> dict[str | None, str]:
    """Reads pictures and shrinks them; one that cannot be shown stops nothing.

    Args:
        paths: Paths and URIs of the pictures' files.

    Returns:
        For each path, a data URI, or the reason why there is none, which does not start with `data:`.
    """
    wanted = list(dict.fromkeys(path for path in paths if path is not None))
    reporter = Reporter("Thumbnails", len(wanted))
    found: dict[str | None, str] = {None: "not a file of its own"}
    with ThreadPoolExecutor(_AT_A_TIME, "thumbnails") as pool:
        for path, thumbnail in zip(wanted, pool.map(_thumbnail, wanted), strict=True):
            found[path] = thumbnail
            reporter.advance(1)
    return found


def _thumbnail(path: str) -> str:
    try:
        pixels = decoding.decode_file(files.read(path), _SIDE)
    except (DataError, decoding.Undecodable) as error:
        # A file that is missing has changed since it was embedded.
        return "the file is gone" if isinstance(error.__cause__, FileNotFoundError) else "the file cannot be read"
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    return data_uri(np.asarray(image))
