"""The download of the official STL-10 archive: resumable, verified, and not unpacked, as ImageExampleGen reads it."""

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from components import file_lock
from trainer.errors import DataError, UserError

_ATTEMPTS = 5
_FIRST_PAUSE_SECONDS = 1.0
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Archive:
    """A file to download, with the size in bytes and the checksum that it must have."""

    url: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


# Size and checksum as TensorFlow Datasets records them for the same file.
STL10 = Archive(
    url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    size=2_640_397_119,
    sha256="f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
)


def download(
    archive: Archive,
    directory: Path,
    on_progress: Callable[[int], None] = lambda done: None,
    pause_seconds: float = _FIRST_PAUSE_SECONDS,
) -> Path:
    """Downloads an archive into a directory; the file gets its final name once its checksum is verified.

    An interrupted download, including that of an earlier process, resumes where it stopped if the server supports
    this.

    Args:
        archive: The archive to download.
        directory: The directory to download to. It is created if it is missing.
        on_progress: Called with the number of bytes that are on disk.
        pause_seconds: Seconds before the second attempt; doubled before each further attempt.

    Returns:
        The path of the file.

    Raises:
        DataError: If the file on the server is not the expected one, or if the existing file is damaged.
        UserError: If the server cannot be reached, if the download is interrupted repeatedly, or if another process is
            downloading the file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / archive.name
    if target.exists():
        _verify(archive, target, f"Remove {target} and start again.")
        return target
    # The name is fixed, so that a later process finds the file and resumes the download.
    partial = target.with_name(f"{target.name}.partial")
    try:
        with file_lock.locked(directory, wait=False):
            # Another process may have finished the download in the meantime.
            if not target.exists():
                _fetch(archive, partial, on_progress, pause_seconds)
                partial.rename(target)
    except BlockingIOError as error:
        raise UserError(f"Another process is already downloading {target}: wait until it is done.") from error
    return target


def _fetch(archive: Archive, partial: Path, on_progress: Callable[[int], None], pause_seconds: float) -> None:
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(pause_seconds * 2 ** (attempt - 1))
        try:
            _fetch_rest(archive, partial, on_progress)
            break
        except httpx.HTTPError as error:
            problem = f"{type(error).__name__}: {error}"
    else:
        have = partial.stat().st_size if partial.exists() else 0
        raise UserError(
            f"The download of {archive.url} failed {_ATTEMPTS} times ({problem}); {have:,} of {archive.size:,} bytes "
            "are on disk. Run the same command again to resume it."
        )
    try:
        _verify(archive, partial, "It was removed: start again, or choose another --url.")
    except DataError:
        partial.unlink()
        raise


def _fetch_rest(archive: Archive, partial: Path, on_progress: Callable[[int], None]) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    if have > archive.size:
        partial.unlink()
        have = 0
    if have == archive.size:
        return
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
    with httpx.stream("GET", archive.url, headers=headers, follow_redirects=True, timeout=_TIMEOUT_SECONDS) as response:
        response.raise_for_status()
        start, total = _served(response)
        if total is not None and total != archive.size:
            raise DataError(f"{archive.url} has {total:,} bytes instead of {archive.size:,}: it is another file.")
        # A server that does not support Range sends the whole file again.
        mode = "ab" if start == have and have else "wb"
        done = have if mode == "ab" else 0
        with open(partial, mode) as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                done += len(chunk)
                on_progress(done)
                if done > archive.size:
                    partial.unlink()
                    raise DataError(f"{archive.url} has more than {archive.size:,} bytes: it is another file.")
    if done < archive.size:
        raise httpx.RemoteProtocolError(f"only {done:,} of {archive.size:,} bytes were received")


def _served(response: httpx.Response) -> tuple[int, int | None]:
    """Returns the position of the response in the file, and the size of the whole file if it is announced."""
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        content_range = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if content_range:
            return int(content_range[1]), None if content_range[2] == "*" else int(content_range[2])
        raise httpx.RemoteProtocolError("a partial response without Content-Range")
    length = response.headers.get("Content-Length")
    return 0, int(length) if length else None


def _verify(archive: Archive, file: Path, advice: str) -> None:
    size = file.stat().st_size
    with open(file, "rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if (size, sha256) != (archive.size, archive.sha256):
        raise DataError(
            f"{file} has {size:,} bytes and the SHA-256 {sha256} instead of {archive.size:,} and {archive.sha256}: "
            f"it is damaged or another file. {advice}"
        )
