"""Computes a data fingerprint, which changes if, and only if, the name or the content of a file of a source changes.

The fingerprint is an explicit parameter of ingest, so that TFX's cache depends on content and not on paths or dates.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from components.image_example_gen import digests
from components.image_example_gen.sources import files
from components.image_example_gen.sources.base import Source
from components.image_example_gen.sources.files import Entry
from components.image_example_gen.sources.span_window import SpanWindow
from trainer.errors import DataError

# The fingerprints that this process computed, by the source's path and a hash of its listing: ingest does not hash once
# more what was hashed when the run started.
_computed: dict[tuple[str, str], str] = {}


def fingerprint(source: Source, memory: Path | None = None) -> str:
    """Hashes the names and contents of a source's files.

    The content of a local file is hashed (SHA-256) once, and again when its path, size, inode or one of its times
    changes. Of an object in a bucket the checksum counts that came with the listing, so that nothing is requested.

    Args:
        source: The source whose files are hashed.
        memory: The folder that keeps the digests of local files from one run to the next; it need not exist yet. With
            None, local files that this process has not hashed yet are hashed.

    Returns:
        32 hexadecimal digits.

    Raises:
        DataError: If a file changes while it is hashed, or its storage fails.
    """
    if isinstance(source, SpanWindow):
        spans = [[span.path.rpartition("/")[2], fingerprint(span, memory)] for span in source.spans]
        return _hash(source.kind, spans)[:32]
    return _fingerprint(source, source.files(), memory)


def require(source: Source, expected: str) -> None:
    """Demands that a source, as it was listed when it was opened, has the fingerprint that a run was started with.

    Raises:
        DataError: If files were added, changed or deleted since that fingerprint was computed.
    """
    found = fingerprint(source)
    if found != expected:
        raise DataError(
            f"{source.path} changed after its fingerprint was computed: the run was started for {expected}, and now it "
            f"has {found}. Run again when nothing writes to it any more. If data.fingerprint is set, remove it or "
            "correct it."
        )


def require_unchanged(source: Source, expected: str) -> None:
    """Demands that what was read is what was listed. Files that arrived after the listing were not read.

    Args:
        source: The source, which was opened before it was read.
        expected: Its fingerprint.

    Raises:
        DataError: If a file changed or vanished.
    """
    if isinstance(source, SpanWindow):
        for span in source.spans:
            require_unchanged(span, fingerprint(span))
        return
    listed, found = source.files(), files.listing(source.path).files
    now = {path: found.get(path.removeprefix(source.path).lstrip("/")) for path in listed}
    present = {path: entry for path, entry in now.items() if entry}
    differing = [path for path in listed if path not in present or present[path].version != listed[path].version]
    # Times alone prove nothing: a backup may have linked the files, which changes that of the inode.
    if differing and (len(present) < len(listed) or _fingerprint(source, present, None) != expected):
        raise files.changed(differing[0])


def _fingerprint(source: Source, listed: Mapping[str, Entry], memory: Path | None) -> str:
    names = {path: path.removeprefix(source.path) for path in sorted(listed)}
    key = source.path, _hash(source.kind, ([name, listed[path].version] for path, name in names.items()))
    if key not in _computed:
        local = {path: entry for path, entry in listed.items() if not entry.checksum}
        found = digests.digests(source.path, local, memory)
        contents = ([name, found.get(path) or listed[path].checksum] for path, name in names.items())
        _computed[key] = _hash(source.kind, contents)[:32]
    return _computed[key]


def _hash(kind: str, rows: Iterable[list[str]]) -> str:
    whole = hashlib.sha256(kind.encode())
    for row in rows:
        whole.update(json.dumps(row).encode())
    return whole.hexdigest()
