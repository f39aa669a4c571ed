"""The whole state of a training on disk, so that it can go on where it was.

A checkpoint is one file, `step-00001200.npz`: NumPy arrays by name, and a JSON description among them. One file is
complete or absent on every file system, after a rename as after an upload to Cloud Storage; zip's checksums tell a
damaged one; and NumPy reads it without unpickling anything.
"""

import hashlib
import io
import json
import logging
import posixpath
import re
import zipfile
from typing import Any, NamedTuple

import numpy as np
from fsspec.core import url_to_fs

from trainer import aside

logger = logging.getLogger("nnclr")

_DESCRIPTION = "description.json"
_NAME = re.compile(r"step-\d{8}\.npz")


class Checkpoint(NamedTuple):
    """What was saved after `step` optimiser steps."""

    path: str
    step: int
    arrays: dict[str, np.ndarray]
    journal: dict[str, Any]


def key(*parts: str) -> str:
    """A short name for what a training depends on: its settings, its data."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class Checkpoints:
    """The checkpoints of one training in a folder of its own.

    Args:
        root: local folder or `gs://` URI that holds the folders of all trainings.
        key: of this one; a checkpoint that bears another is not used.
        keep: the newest so many stay.
    """

    def __init__(self, root: str, key: str, keep: int):
        self.directory = f"{root.rstrip('/')}/{key}"
        self._files, self._folder = url_to_fs(self.directory)
        self._key, self._keep = key, keep

    def save(self, step: int, arrays: dict[str, np.ndarray], journal: dict[str, Any]) -> str:
        """Writes one aside, renames it and deletes the oldest; returns its path.

        Args:
            step: optimiser steps done.
            arrays: the state.
            journal: what else to remember, as JSON.
        """
        self._files.makedirs(self._folder, exist_ok=True)
        description = json.dumps({"key": self._key, "step": step, "journal": journal})
        name = f"step-{step:08d}.npz"
        place = f"{self._folder}/{name}"
        unfinished = aside.beside(place)
        content = io.BytesIO()
        everything: dict[str, Any] = arrays | {_DESCRIPTION: np.frombuffer(description.encode(), np.uint8)}
        np.savez(content, **everything)
        self._files.pipe_file(unfinished, content.getvalue())
        self._files.mv(unfinished, place)
        self._delete_superseded()
        return f"{self.directory}/{name}"

    def latest(self, shapes: dict[str, tuple[int, ...]]) -> Checkpoint | None:
        """The newest checkpoint that is whole and this training's; those that are not are named in the log.

        Args:
            shapes: of the arrays that it must hold, by name.
        """
        for name in reversed(self._names()):
            try:
                return self._read(name, shapes)
            except _Unusable as problem:
                path = f"{self.directory}/{name}"
                logger.warning("The checkpoint %s is not used: %s. Taking the one before it.", path, problem)
        return None

    def clear(self) -> None:
        """Deletes all of them, when the training's result is safe elsewhere."""
        if self._files.exists(self._folder):
            self._files.rm(self._folder, recursive=True)

    def _names(self) -> list[str]:
        """Names of the checkpoints, the oldest first."""
        # Other processes write and delete: what was listed a while ago does not count.
        self._files.invalidate_cache()
        if not self._files.exists(self._folder):
            return []
        names = [posixpath.basename(path) for path in self._files.ls(self._folder, detail=False)]
        return sorted(name for name in names if _NAME.fullmatch(name))

    def _delete_superseded(self) -> None:
        for name in self._names()[: -self._keep]:
            self._files.rm_file(f"{self._folder}/{name}")
        aside.remove_abandoned(self._files, self._folder)

    def _read(self, name: str, shapes: dict[str, tuple[int, ...]]) -> Checkpoint:
        content = self._files.cat_file(f"{self._folder}/{name}")
        try:
            stored = np.load(io.BytesIO(content), allow_pickle=False)
            # Reading an array checks its checksum.
            arrays = {name: stored[name] for name in stored.files}
            description = json.loads(arrays.pop(_DESCRIPTION).tobytes())
        except (zipfile.BadZipFile, EOFError, ValueError, KeyError, OSError, AttributeError) as error:
            raise _Unusable(f"it is damaged ({error})") from error
        if description["key"] != self._key:
            raise _Unusable(f"it belongs to another training ({description['key']})")
        theirs = {name: array.shape for name, array in arrays.items()}
        if theirs != shapes:
            differing = sorted(name for name in theirs.keys() | shapes.keys() if theirs.get(name) != shapes.get(name))
            raise _Unusable(f"it holds other variables ({', '.join(differing[:3])})")
        return Checkpoint(f"{self.directory}/{name}", description["step"], arrays, description["journal"])


class _Unusable(Exception):
    pass
