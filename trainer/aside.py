"""Temporary hidden names, so that no reader mistakes a half-written file for a finished one.

A file or folder is written beside its place under such a name, and renamed once it is whole. Every write gets a name of
its own: two processes that write the same thing at once never touch each other's half.
"""

import posixpath
import re
import time
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

#: Half-written files and folders of this age were left by a process that was killed.
ABANDONED_AFTER_SECONDS = 3600

_NAME = re.compile(r"\..*\.[0-9a-f]{32}\.partial")


def beside(path: str) -> str:
    """Returns a new hidden name in the folder of `path`, which is a local path or the URI of an object."""
    folder, separator, name = path.rstrip("/").rpartition("/")
    return f"{folder}{separator}.{name}.{uuid.uuid4().hex}.partial"


def remove_abandoned(files: "AbstractFileSystem", folder: str) -> None:
    """Deletes what killed processes left half-written in a folder.

    What is younger than an hour may be in the making and stays.

    Args:
        files: file system of the folder.
        folder: path in that file system; need not exist.
    """
    files.invalidate_cache()
    if not files.exists(folder):
        return
    for path in files.ls(folder, detail=False):
        if _NAME.fullmatch(posixpath.basename(path.rstrip("/"))):
            _remove_if_abandoned(files, path)


def _remove_if_abandoned(files: "AbstractFileSystem", path: str) -> None:
    try:
        newest = max(_modified(files, found) for found in [path, *files.find(path, withdirs=True)])
        if time.time() - newest > ABANDONED_AFTER_SECONDS:
            files.rm(path, recursive=True)
    except FileNotFoundError:
        # Another process finished or deleted it meanwhile.
        return


def _modified(files: "AbstractFileSystem", path: str) -> float:
    try:
        return files.modified(path).timestamp()
    except (NotImplementedError, KeyError):
        # Folders of an object store have no time: their objects do.
        return 0.0
