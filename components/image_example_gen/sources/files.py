"""Lists and reads the files of a source, on a local disk, in Cloud Storage or in S3.

An error of the storage is never one of a picture: it is retried, and then ends the run with a sentence that names the
file.
"""

import errno
import logging
import os
import posixpath
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple, TypeVar

from trainer import progress, storage
from trainer.errors import DataError

logger = logging.getLogger("nnclr")

_Result = TypeVar("_Result")

#: Why a file or folder that belongs to somebody else cannot be read.
NO_PERMISSION = "permission denied"

# How many objects of a bucket are requested at a time, and how many bytes of them may wait for their turn.
_CONCURRENT_REQUESTS = 32
_MOST_BYTES_WAITING = 64 * 2**20
# Bytes for each request of a file in a bucket that is read as a stream.
_BLOCK_BYTES = 16 * 2**20
# Errors of a disk or of a network file system that may pass, and the seconds to wait before each further attempt.
_PASSING_ERRORS = (errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.ENETUNREACH)
_WAITS = (0.5, 1.0, 2.0, 4.0)


class Entry(NamedTuple):
    """A file as it was listed.

    Attributes:
        size: Size in bytes.
        changed: When it last changed, in seconds since 1970; of a local file the time of its inode, because its
            modification time is often copied along with its content.
        version: Text that differs after every change of the file. For an object, its checksum.
        checksum: What the storage of an object says about its content; empty for a local file.
    """

    size: int
    changed: float
    version: str
    checksum: str = ""


@dataclass(frozen=True)
class Listing:
    """The files below a folder, at any depth.

    Attributes:
        files: The files by their paths relative to the folder, sorted. If the path is itself a file, it is the only
            one, and its relative path is empty. Names that are not UTF-8 hold surrogates, as `os.fsdecode` makes them.
        problems: Why something in the folder is not listed, by relative path: folders without permission or files,
            links that lead nowhere or in a circle, and what is neither a file nor a folder.
    """

    files: dict[str, Entry] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def listing(path: str) -> Listing:
    """Lists all files below a folder, or the file at a path. Linked folders are followed.

    In a bucket this takes one request for each 1,000 objects.

    Args:
        path: Local path or URI, taken literally even if its name contains wildcards.

    Returns:
        The files and problems; no files if nothing is there.

    Raises:
        DataError: If there is no such bucket, or the path cannot be listed.
    """
    with progress.waiting_for(f"the list of files of {path}"), storage.explained(path):
        return _bucket_listing(path) if storage.in_bucket(path) else _retried(lambda: _local_listing(path))


def names(directory: str) -> list[str]:
    """Lists the names of the files and folders directly in a directory; none if the directory does not exist.

    Raises:
        DataError: If there is no such bucket, or the directory cannot be listed.
    """
    with storage.explained(directory):
        if not storage.in_bucket(directory):
            try:
                return sorted(_retried(lambda: os.listdir(directory)))
            except (FileNotFoundError, NotADirectoryError):
                return []
        files, folder = storage.located(directory.rstrip("/"))
        try:
            found = {name.rstrip("/") for name in files.ls(folder, detail=False)}
        except FileNotFoundError:
            # Either nothing lies there, or there is no bucket, which this tells apart.
            return list(_bucket_listing(directory).files)
        return sorted(name.removeprefix(f"{folder}/") for name in found - {folder})


def exists(path: str) -> bool:
    """Returns whether a small file exists. One in a bucket is read, because that takes a single request.

    Raises:
        DataError: If the storage fails.
    """
    with storage.explained(path):
        if not storage.in_bucket(path):
            return _retried(lambda: os.path.isfile(path))
        try:
            _read(path)
        except FileNotFoundError:
            return False
        return True


def read(path: str, first: int = 0, count: int | None = None) -> bytes:
    """Reads a file or a range of its bytes. Of an object in a bucket, this takes one request.

    Args:
        path: Local path or URI.
        first: Position of the first byte.
        count: Number of bytes; None for all up to the end.

    Raises:
        DataError: If the file vanished, must not be read, or its storage fails.
    """
    with storage.explained(path), _present(path):
        return _read(path, first, count)


def read_ahead(listed: Iterable[tuple[str, Entry]]) -> Iterator[tuple[str, bytes | PermissionError]]:
    """Reads whole files one after the other; those of a bucket are requested ahead, many at a time.

    Args:
        listed: Path or URI of each file, and how it was listed. All lie on the same storage.

    Yields:
        Path and content of each file, in the order given. A local file that this user must not read has the error
        instead of its content.

    Raises:
        DataError: If a file vanished or shrank since it was listed, or the storage fails. An object in a bucket that
            must not be read raises it, too, because permissions there apply to whole buckets.
    """
    waiting: deque[tuple[str, Entry, Future[bytes]]] = deque()
    bytes_waiting = 0
    pool: ThreadPoolExecutor | None = None
    try:
        for path, entry in listed:
            if not storage.in_bucket(path):
                yield path, _read_local(path, entry)
                continue
            pool = pool or ThreadPoolExecutor(_CONCURRENT_REQUESTS, "read-ahead")
            while waiting and (
                len(waiting) >= _CONCURRENT_REQUESTS or bytes_waiting + entry.size > _MOST_BYTES_WAITING
            ):
                earlier, listed_entry, content = waiting.popleft()
                bytes_waiting -= listed_entry.size
                yield earlier, _whole(earlier, listed_entry, content.result())
            waiting.append((path, entry, pool.submit(read, path)))
            bytes_waiting += entry.size
        for path, entry, content in waiting:
            yield path, _whole(path, entry, content.result())
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """Opens a file for reading its stored bytes from the start; a compressed file is not decompressed.

    Raises:
        DataError: From here and from reading, if the file vanished, must not be read, or its storage fails.
    """
    with storage.explained(path), _present(path):
        if storage.in_bucket(path):
            files, target = storage.located(path)
            file: IO[bytes] = files.open(target, "rb", block_size=_BLOCK_BYTES)
        else:
            file = open(path, "rb")
    with file:
        yield _Explained(file, path)  # type: ignore[misc]


class _Explained:
    """A file whose errors are sentences, so that nobody takes an error of the storage for a damaged file."""

    def __init__(self, file: IO[bytes], path: str):
        self._file, self._path = file, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        position = self._file.tell()

        def attempt() -> bytes:
            self._file.seek(position)
            return self._file.read(size)

        with storage.explained(self._path), _present(self._path):
            return _retried(attempt)


def changed(path: str) -> DataError:
    """Returns the error for a file that is no longer as it was listed."""
    return DataError(
        f"{path} changed while the source was read, so that the images would not be those of their fingerprint: run "
        "again when nothing writes to the source any more."
    )


def join(directory: str, *names: str) -> str:
    """Joins a directory, local or in a bucket, and the names below it; an empty name stands for the directory."""
    return posixpath.join(directory, *filter(None, names))


def _bucket_listing(path: str) -> Listing:
    files, folder = storage.located(path.rstrip("/"))
    found = sorted(files.find(folder, detail=True).items())
    # The Cloud console creates an object with a folder's name and a slash, and SeaweedFS shows a folder whose objects
    # were deleted as an empty object. Neither is content.
    return Listing(
        {
            name[len(folder) + 1 :]: _object(info)
            for name, info in found
            if not name.endswith("/") and (name != folder or info["size"])
        }
    )


def _object(info: Mapping[str, Any]) -> Entry:
    """Converts what gcsfs or s3fs tells of an object."""
    checksum = info.get("crc32c") or info.get("md5Hash") or info["ETag"].strip('"')
    return Entry(info["size"], (info.get("mtime") or info["LastModified"]).timestamp(), checksum, checksum)


def _local_listing(path: str) -> Listing:
    found = Listing()
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return found
    if stat.S_ISDIR(status.st_mode):
        _scan(path, "", [status], found)
    else:
        _add(found, "", status)
    return Listing(dict(sorted(found.files.items())), dict(sorted(found.problems.items())))


def _scan(folder: str, relative: str, above: list[os.stat_result], found: Listing) -> None:
    """Adds what lies below a folder, whose own status and those of the folders above it are `above`."""
    with os.scandir(folder) as scanned:
        entries = list(scanned)
    if not entries and relative:
        found.problems[relative] = "the folder is empty"
    for entry in entries:
        name = join(relative, entry.name)
        try:
            # Of what a link leads to.
            status = entry.stat()
            if not stat.S_ISDIR(status.st_mode):
                _add(found, name, status)
            elif any(os.path.samestat(status, other) for other in above):
                found.problems[name] = "the link leads to a folder that contains it"
            else:
                _scan(entry.path, name, [*above, status], found)
        except PermissionError:
            found.problems[name] = NO_PERMISSION
        except FileNotFoundError:
            # Anything else was deleted just now.
            if entry.is_symlink():
                found.problems[name] = "the link leads nowhere"
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            found.problems[name] = "the link leads to itself"


def _add(found: Listing, name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        found.problems[name] = "it is neither a file nor a folder"
        return
    version = f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"
    found.files[name] = Entry(status.st_size, status.st_ctime, version)


def _read(path: str, first: int = 0, count: int | None = None) -> bytes:
    end = None if count is None else first + count
    if storage.in_bucket(path):
        files, target = storage.located(path)
        # With more than one part, s3fs would ask for the size first. gcsfs ignores the argument.
        return files.cat_file(target, start=first or None, end=end, max_concurrency=1)

    def attempt() -> bytes:
        with open(path, "rb") as file:
            file.seek(first)
            return file.read(-1 if count is None else count)

    return _retried(attempt)


def _read_local(path: str, entry: Entry) -> bytes | PermissionError:
    with storage.explained(path), _present(path):
        try:
            return _whole(path, entry, _read(path))
        except PermissionError as error:
            return error


def _whole(path: str, entry: Entry, content: bytes) -> bytes:
    if len(content) != entry.size:
        raise changed(path)
    return content


@contextmanager
def _present(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise changed(path) from error


def _retried(attempt: Callable[[], _Result]) -> _Result:
    """Repeats what fails with an error that may pass. The clients of buckets do this themselves."""
    for seconds in _WAITS:
        try:
            return attempt()
        except OSError as error:
            if error.errno not in _PASSING_ERRORS:
                raise
            logger.warning("%s; trying again in %g seconds.", error, seconds)
        time.sleep(seconds)
    return attempt()
