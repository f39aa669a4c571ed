"""Digests of local files, which are computed once and remembered from one run to the next.

Each source has a memory file of its own, which holds the digests of the files that the source has now.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import TypeAdapter

from components.image_example_gen.sources import files
from components.image_example_gen.sources.files import Entry
from trainer import aside
from trainer.errors import DataError

_BYTES_PER_READ = 2**20
# The memory of a source that no run looked at for so long is deleted.
_FORGOTTEN_AFTER_SECONDS = 30 * 24 * 3600
# The version and the digest of each file.
_KNOWN = TypeAdapter(dict[str, tuple[str, str]])
# Stands for the content of a file that this user must not read. It is not remembered: another user may read the file.
_UNREADABLE = "unreadable"


def digests(root: str, listed: Mapping[str, Entry], memory: Path | None) -> dict[str, str]:
    """Returns the digest of each file: its size, a colon and its SHA-256.

    Args:
        root: Path of the source.
        listed: How each local file was listed, by its path, which begins with `root`.
        memory: Folder that keeps the digests of all sources; it need not exist yet. With None, every file is hashed.

    Raises:
        DataError: If a file changes while it is hashed, or cannot be read for another reason than its permissions.
    """
    remembered = memory / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.json" if memory else None
    known = _read(remembered) if remembered else {}

    def digest(path: str) -> str:
        version, found = known.get(path.removeprefix(root), ("", ""))
        return found if version == listed[path].version else _digest(path, listed[path])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        current = dict(zip(listed, pool.map(digest, listed), strict=True))
    if remembered and current:
        _write(
            remembered,
            {
                path.removeprefix(root): (listed[path].version, found)
                for path, found in current.items()
                if not found.endswith(_UNREADABLE)
            },
        )
    return current


def _digest(path: str, entry: Entry) -> str:
    content = hashlib.sha256()
    try:
        with files.opened(path) as file:
            while block := file.read(_BYTES_PER_READ):
                content.update(block)
    except DataError as error:
        if isinstance(error.__cause__, PermissionError):
            return f"{entry.size}:{_UNREADABLE}"
        raise
    if files.listing(path).files.get("") != entry:
        raise files.changed(path)
    return f"{entry.size}:{content.hexdigest()}"


def _read(file: Path) -> dict[str, tuple[str, str]]:
    try:
        # Pydantic's own parser refuses names of files that are not UTF-8.
        return _KNOWN.validate_python(json.loads(file.read_bytes()))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}


def _write(file: Path, known: Mapping[str, tuple[str, str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(aside.beside(str(file)))
    with aside.discarded_on_failure(unfinished.unlink):
        unfinished.write_text(json.dumps(known))
        unfinished.replace(file)
    # nnclr 0.1.0 kept the digests of every file that it ever saw in one file.
    file.parent.with_suffix(".json").unlink(missing_ok=True)
    for other in file.parent.iterdir():
        if time.time() - other.stat().st_mtime > _FORGOTTEN_AFTER_SECONDS:
            other.unlink(missing_ok=True)
