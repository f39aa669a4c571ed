"""Reading from local disks and Cloud Storage alike, through Beam's file systems."""

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


def listing(pattern: str) -> dict[str, int]:
    """Path and size in bytes of the files that match a pattern (`**` crosses folders), in the order of their names.

    Raises:
        DataError: the place cannot be listed.
    """
    try:
        matched = FileSystems.match([pattern])[0].metadata_list
    except (BeamIOError, OSError, ValueError) as error:
        raise DataError(f"{pattern} cannot be listed: {error}") from error
    return {entry.path: entry.size_in_bytes for entry in sorted(matched, key=lambda entry: entry.path)}


def join(directory: str, *names: str) -> str:
    """A path below a directory, local or `gs://`."""
    return posixpath.join(directory, *names)
