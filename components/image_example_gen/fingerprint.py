"""A data fingerprint: changes when, and only when, names or contents of a source's files do.

It is an explicit parameter of ingest, so that the cache follows content instead of paths or dates.
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from apache_beam.io.filesystems import FileSystems

from components.image_example_gen.sources.base import Source
from trainer import aside


def fingerprint(source: Source, memory: Path | None = None) -> str:
    """Hashes names, sizes and content digests of a source's files.

    Local contents are hashed once (sha256) and remembered by path, size, modification time and inode; of Cloud Storage
    objects the stored checksum is taken, which costs no download.

    Args:
        source: opened.
        memory: file that remembers digests between runs, if they shall be; it may not exist yet.

    Returns:
        32 hexadecimal digits.
    """
    known = _remembered(memory) if memory else {}
    paths = source.files()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        current = dict(zip(paths, pool.map(lambda path: _digest(path, known), paths), strict=True))
    if memory:
        unfinished = Path(aside.beside(str(memory)))
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(known | {path: entry for path, entry in current.items() if entry[0]}))
        unfinished.replace(memory)

    whole = hashlib.sha256(source.kind.encode())
    for path in sorted(paths):
        whole.update(json.dumps([path.removeprefix(source.path), current[path][1]]).encode())
    return whole.hexdigest()[:32]


def _digest(path: str, known: dict[str, list]) -> list:
    """[state of the file that the digest holds for (empty if remote), digest with size]."""
    if "://" in path:
        return ["", FileSystems.checksum(path)]
    status = os.stat(path)
    state = [status.st_size, status.st_mtime_ns, status.st_ino]
    if path in known and known[path][0] == state:
        return known[path]
    with open(path, "rb") as file:
        return [state, f"{status.st_size}:{hashlib.file_digest(file, 'sha256').hexdigest()}"]


def _remembered(memory: Path) -> dict[str, list]:
    try:
        return json.loads(memory.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
