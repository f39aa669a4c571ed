"""Reading from local disks and Cloud Storage alike, through Beam's file systems."""

import glob
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from trainer.errors import DataError


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """The bytes of a file as they are stored, whatever its ending promises.

    Raises:
        DataError: it cannot be opened.
    """
    try:
        file = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    except (BeamIOError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    with file:
        yield file


def listing(directory: str, pattern: str) -> dict[str, int]:
    """Path and size in bytes of the files below a directory that match, in the order of their names.

    Args:
        directory: taken literally, whatever its name looks like.
        pattern: of the rest of the path; `*` stays within a folder, `**` crosses folders.

    Raises:
        DataError: the place cannot be listed.
    """
    try:
        matched = FileSystems.match([join(glob.escape(directory), pattern)])[0].metadata_list
    except (BeamIOError, OSError, ValueError) as error:
        raise DataError(f"{directory} cannot be listed: {error}") from error
    return {entry.path: entry.size_in_bytes for entry in sorted(matched, key=lambda entry: entry.path)}


def exists(path: str) -> bool:
    """Whether there is such a file."""
    return FileSystems.exists(path)


def join(directory: str, *names: str) -> str:
    """A path below a directory, local or `gs://`."""
    return posixpath.join(directory, *names)
