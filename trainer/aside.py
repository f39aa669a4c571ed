"""Temporary hidden names, so that no reader mistakes an incomplete file for a finished one.

A file or folder is written under a temporary name in its final folder, and renamed when it is complete. Every write
gets a name of its own, so that two processes that write the same file at the same time do not disturb each other.
"""

import posixpath
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

#: Incomplete files and folders that are older than this were left by a process that was killed.
ABANDONED_AFTER_SECONDS = 3600

_NAME = re.compile(r"\..*\.[0-9a-f]{32}\.partial")


def beside(path: str) -> str:
    """Returns a new temporary path in the folder of `path`, which is a local path or the URI of an object."""
    folder, separator, name = path.rstrip("/").rpartition("/")
    return f"{folder}{separator}.{name}.{uuid.uuid4().hex}.partial"


@contextmanager
def discarded_on_failure(remove: Callable[[], object]) -> Iterator[None]:
    """Deletes an incomplete file if writing or renaming it fails, for example because the disk is full.

    Args:
        remove: Deletes the file.
    """
    try:
        yield
    except BaseException:
        # What failed is the error to report.
        with suppress(Exception):
            remove()
        raise


def is_temporary(name: str) -> bool:
    """Returns whether a file or folder with this name was written, or is being deleted, under a temporary name."""
    return _NAME.fullmatch(name) is not None


def remove_abandoned(files: "AbstractFileSystem", folder: str) -> None:
    """Deletes incomplete files and folders that killed processes left in a folder.

    Those that changed within the last hour are kept, because another process may still be writing them.

    Args:
        files: File system of the folder.
        folder: Path in that file system, which need not exist.
    """
    if not files.exists(folder):
        return
    for path in files.ls(folder, detail=False):
        if is_temporary(posixpath.basename(path.rstrip("/"))):
            _remove_if_abandoned(files, path)


def _remove_if_abandoned(files: "AbstractFileSystem", path: str) -> None:
    try:
        newest = max(_modified(files, inner) for inner in [path, *files.find(path, withdirs=True)])
        if time.time() - newest > ABANDONED_AFTER_SECONDS:
            files.rm(path, recursive=True)
    except FileNotFoundError:
        # Another process has renamed or deleted it in the meantime.
        return


def _modified(files: "AbstractFileSystem", path: str) -> float:
    try:
        return files.modified(path).timestamp()
    except (NotImplementedError, KeyError, IsADirectoryError):
        # Folders in an object store have no modification time, but their objects have.
        return 0.0
