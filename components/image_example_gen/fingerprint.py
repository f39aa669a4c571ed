"""Computes a data fingerprint, which changes if, and only if, the name or the content of a file of a source changes.

The fingerprint is an explicit parameter of ingest, so that TFX's cache depends on content and not on paths or dates.
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from apache_beam.io.filesystems import FileSystems

from components.image_example_gen.sources.base import Source
from trainer import aside


def fingerprint(source: Source, digest_file: Path | None = None) -> str:
    """Hashes names, sizes and content digests of a source's files.

    The content of a local file is hashed (SHA-256) once, and again when its path, size, modification time or inode
    changes. For an object in Cloud Storage its stored checksum is used, which needs no download.

    Args:
        source: The source whose files are hashed.
        digest_file: The file that keeps digests from one run to the next; it need not exist yet. With None, every local
            file is hashed again.

    Returns:
        32 hexadecimal digits.
    """
    known = _stored_digests(digest_file) if digest_file else {}
    paths = source.files()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        current = dict(zip(paths, pool.map(lambda path: _digest(path, known), paths), strict=True))
    if digest_file:
        unfinished = Path(aside.beside(str(digest_file)))
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(known | {path: entry for path, entry in current.items() if entry[0]}))
        unfinished.replace(digest_file)

    whole = hashlib.sha256(source.kind.encode())
    for path in sorted(paths):
        whole.update(json.dumps([path.removeprefix(source.path), current[path][1]]).encode())
    return whole.hexdigest()[:32]


def _digest(path: str, known: dict[str, list]) -> list:
    """Returns the state of the file that the digest is valid for (empty if remote), and the digest with the size."""
    if "://" in path:
        return ["", FileSystems.checksum(path)]
    status = os.stat(path)
    state = [status.st_size, status.st_mtime_ns, status.st_ino]
    if path in known and known[path][0] == state:
        return known[path]
    with open(path, "rb") as file:
        return [state, f"{status.st_size}:{hashlib.file_digest(file, 'sha256').hexdigest()}"]


def _stored_digests(file: Path) -> dict[str, list]:
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
