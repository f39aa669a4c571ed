"""Downloads the official STL-10 archive: resumable, checked, and kept packed, as ingest reads it."""

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
    """What to download, and how to know that it is right."""

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
    """Downloads into a folder; the file gets its name only when its checksum is right.

    A download that broke off, now or in an earlier process, goes on where it stopped if the server can do that.

    Args:
        archive: what to download.
        directory: created if need be.
        on_progress: told how many bytes are there.
        pause_seconds: before the second attempt; doubled before each further one.

    Returns:
        The file.

    Raises:
        DataError: the server has another file than the expected one.
        UserError: it cannot be reached, or breaks off again and again.
    """
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / archive.name
    if target.exists():
        _require_right(archive, target, f"Remove {target} and start again.")
        return target
    # Not a name of its own, as elsewhere: a later process goes on with it.
    partial = target.with_name(f"{target.name}.partial")
    try:
        with file_lock.locked(directory, wait=False):
            # Another process may have finished it since.
            if not target.exists():
                _fetch(archive, partial, on_progress, pause_seconds)
                partial.rename(target)
    except BlockingIOError as error:
        raise UserError(f"Another process is downloading {target} already: wait for it.") from error
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
            f"{archive.url} broke off {_ATTEMPTS} times ({problem}); {have:,} of {archive.size:,} bytes are there. "
            "Start the same command again to go on."
        )
    try:
        _require_right(archive, partial, "It was removed: start again, or name another --url.")
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
            raise DataError(f"{archive.url} has {total:,} bytes, expected {archive.size:,}: it is another file.")
        # A server that ignores Range sends all of it again.
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
        raise httpx.RemoteProtocolError(f"only {done:,} of {archive.size:,} bytes came")


def _served(response: httpx.Response) -> tuple[int, int | None]:
    """First byte that the response holds, and the size of the whole file if it says so."""
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if found:
            return int(found[1]), None if found[2] == "*" else int(found[2])
        raise httpx.RemoteProtocolError("a part without Content-Range")
    length = response.headers.get("Content-Length")
    return 0, int(length) if length else None


def _require_right(archive: Archive, file: Path, advice: str) -> None:
    size = file.stat().st_size
    with open(file, "rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if (size, sha256) != (archive.size, archive.sha256):
        raise DataError(
            f"{file} has {size:,} bytes and the SHA-256 {sha256}, expected {archive.size:,} and {archive.sha256}: "
            f"it is damaged or another file. {advice}"
        )
