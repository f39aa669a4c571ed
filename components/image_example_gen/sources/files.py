"""Reads files from local disks and from Cloud Storage alike, through Beam's file systems."""

import glob
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from trainer.errors import DataError

# How a path in Cloud Storage starts.
CLOUD = "gs://"


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """Opens a file for reading its stored bytes; a compressed file is not decompressed.

    Raises:
        DataError: If the file cannot be opened.
    """
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    try:
        file = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    with file:
        yield file


def read(path: str) -> bytes:
    """Reads a whole file.

    Raises:
        DataError: If the file cannot be read.
    """
    with opened(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}") from error


def listing(directory: str) -> dict[str, int]:
    """Lists all files below a directory, at any depth.

    Args:
        directory: The directory, taken literally even if its name contains wildcards.

    Returns:
        The size of each file in bytes by its path relative to the directory, sorted by path; empty if the directory
        does not exist or is a file.

    Raises:
        DataError: If the directory cannot be listed.
    """
    from apache_beam.io.filesystems import FileSystems

    try:
        matched = FileSystems.match([join(glob.escape(directory), "**")])[0].metadata_list
    except (OSError, ValueError) as error:
        raise DataError(f"{directory} cannot be listed: {error}") from error
    start = len(join(directory, ""))
    return {entry.path[start:]: entry.size_in_bytes for entry in sorted(matched, key=lambda entry: entry.path)}


def exists(path: str) -> bool:
    """Whether a file exists."""
    from apache_beam.io.filesystems import FileSystems

    return FileSystems.exists(path)


def join(directory: str, *names: str) -> str:
    """Joins a directory, local or `gs://`, and the names below it."""
    return posixpath.join(directory, *names)
