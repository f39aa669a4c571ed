"""Keeps the list of rejected pictures, which an ingest that fails would delete with its output."""

from collections.abc import Iterator
from contextlib import contextmanager

from components import artifact_files
from components.image_example_gen.rejections import RejectedPictures
from trainer.errors import DataError


@contextmanager
def rejections_kept(path: str) -> Iterator[None]:
    """Writes the list of rejected pictures to `path` if an ingest fails because of them, and names it in the error.

    Args:
        path: Local path or URI of the file.
    """
    try:
        yield
    except RejectedPictures as error:
        artifact_files.write(path, error.listing.encode())
        raise DataError(f"{error} All are listed in {path}, which data.exclude takes.") from error
