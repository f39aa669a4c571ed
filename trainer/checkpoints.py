"""The whole state of a training on disk, so that it can go on where it was.

A checkpoint is one file, `step-00001200.npz`: NumPy arrays by name, and a JSON description among them. One file is
complete or absent on every file system, after a rename as after an upload to Cloud Storage; zip's checksums tell a
damaged one; and NumPy reads it without unpickling anything.
"""

import hashlib
import io
import json
import logging
import re
import uuid
import zipfile
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

logger = logging.getLogger("nnclr")

_DESCRIPTION = "description.json"
_NAME = re.compile(r"step-(\d{8,})\.npz")


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
        self._key, self._keep = key, keep

    def save(self, step: int, arrays: dict[str, np.ndarray], journal: dict[str, Any]) -> str:
        """Writes one aside, renames it and deletes the oldest; returns its path.

        Args:
            step: optimiser steps done.
            arrays: the state.
            journal: what else to remember, as JSON.
        """
        tf.io.gfile.makedirs(self.directory)
        description = json.dumps({"key": self._key, "step": step, "journal": journal})
        path = f"{self.directory}/step-{step:08d}.npz"
        aside = f"{self.directory}/.{uuid.uuid4().hex}.partial"
        content = io.BytesIO()
        np.savez(content, **arrays, **{_DESCRIPTION: np.frombuffer(description.encode(), np.uint8)})
        with tf.io.gfile.GFile(aside, "wb") as file:
            file.write(content.getbuffer())
        tf.io.gfile.rename(aside, path, overwrite=True)
        self._delete_superseded()
        return path

    def latest(self, shapes: dict[str, tuple[int, ...]]) -> Checkpoint | None:
        """The newest checkpoint that is whole and this training's; those that are not are named in the log.

        Args:
            shapes: of the arrays that it must hold, by name.
        """
        for _, path in reversed(self._found()):
            try:
                return self._read(path, shapes)
            except _Unusable as problem:
                logger.warning("The checkpoint %s is not used: %s. Taking the one before it.", path, problem)
        return None

    def clear(self) -> None:
        """Deletes all of them, when the training's result is safe elsewhere."""
        if tf.io.gfile.exists(self.directory):
            tf.io.gfile.rmtree(self.directory)

    def _found(self) -> list[tuple[int, str]]:
        if not tf.io.gfile.exists(self.directory):
            return []
        matches = [_NAME.fullmatch(name) for name in tf.io.gfile.listdir(self.directory)]
        return sorted((int(match[1]), f"{self.directory}/{match[0]}") for match in matches if match)

    def _delete_superseded(self) -> None:
        for _, path in self._found()[: -self._keep]:
            tf.io.gfile.remove(path)
        for name in tf.io.gfile.listdir(self.directory):
            # Left by a process that was killed while it wrote.
            if name.endswith(".partial"):
                tf.io.gfile.remove(f"{self.directory}/{name}")

    def _read(self, path: str, shapes: dict[str, tuple[int, ...]]) -> Checkpoint:
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                stored = np.load(io.BytesIO(file.read()), allow_pickle=False)
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
        return Checkpoint(path, description["step"], arrays, description["journal"])


class _Unusable(Exception):
    pass
