"""Checkpoints: the complete state of a training on disk, so that an interrupted training can continue.

A checkpoint is one file, such as `step-00001200.npz`, with NumPy arrays by name and a description in JSON. A single
file is either complete or absent on every file system, after a rename as well as after an upload to Cloud Storage. The
checksums of the zip format reveal damage, and NumPy reads the file without unpickling.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import posixpath
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from trainer import aside, storage
from trainer.errors import SettingsError

logger = logging.getLogger("nnclr")

_DESCRIPTION = "description.json"
_NAME = re.compile(r"step-\d{8}\.npz")


class Checkpoint(NamedTuple):
    """The content of a checkpoint.

    Attributes:
        path: Path of the file.
        step: Number of optimiser steps done.
        arrays: The training's variables by name.
        journal: Everything else that was saved, as JSON.
    """

    path: str
    step: int
    arrays: dict[str, np.ndarray]
    journal: dict[str, Any]


def key(*parts: str) -> str:
    """Returns a short name for everything that a training depends on, such as its settings and its images."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class Checkpoints:
    """The checkpoints of one training, in a folder of their own.

    Args:
        root: Local folder, or the URI of a folder in a bucket, that contains the folders of all trainings.
        key: Key of the training (see `key`). A checkpoint with another key is not used.
        keep: Number of latest checkpoints to keep.
    """

    def __init__(self, root: str, key: str, keep: int):
        self.directory = f"{root.rstrip('/')}/{key}"
        self._files, self._folder = storage.located(self.directory)
        self._key, self._keep = key, keep

    def require_writable(self) -> None:
        """Writes and deletes an empty file, so that a training does not run in vain until its first checkpoint.

        Raises:
            SettingsError: If the folder cannot be written.
        """
        probe = aside.beside(f"{self._folder}/probe")
        try:
            self._files.pipe_file(probe, b"")
            self._files.rm_file(probe)
        except Exception as error:
            reason = storage.failure(error, self.directory)
            if reason is None:
                raise
            advice = (
                f"choose another folder, or give uid {os.getuid()} the permission to write there. On Kubernetes, set "
                "fsGroup for the pods (see infra/README.md)"
            )
            problem = f": {reason}" if storage.in_bucket(self.directory) else f" ({reason}): {advice}"
            raise SettingsError(f"Checkpoints cannot be written to {self.directory}{problem}.") from error

    def save(self, step: int, arrays: dict[str, np.ndarray], journal: dict[str, Any]) -> str:
        """Writes a checkpoint and deletes those that are no longer needed.

        Args:
            step: Number of optimiser steps done.
            arrays: The training's variables by name.
            journal: Everything else to save, as JSON.

        Returns:
            Path of the checkpoint.
        """
        description = json.dumps({"key": self._key, "step": step, "journal": journal})
        name = f"step-{step:08d}.npz"
        path = f"{self._folder}/{name}"
        unfinished = aside.beside(path)
        contents: dict[str, Any] = arrays | {_DESCRIPTION: np.frombuffer(description.encode(), np.uint8)}
        try:
            with self._files.open(unfinished, "wb") as file:
                np.savez(file, **contents)
                if not storage.in_bucket(self.directory):
                    # A rename can reach the disk before the content, which a power failure would then lose.
                    file.flush()
                    os.fsync(file.fileno())
            self._files.mv(unfinished, path)
        except BaseException:
            # The disk may be full, and the file takes some of it.
            with contextlib.suppress(Exception):
                self._files.rm_file(unfinished)
            raise
        self._delete_superseded()
        return f"{self.directory}/{name}"

    def latest(self, shapes: dict[str, tuple[int, ...]]) -> Checkpoint | None:
        """Reads the latest usable checkpoint. The log names checkpoints that are damaged or of another training.

        Args:
            shapes: Shapes of the arrays that the checkpoint must contain, by name.

        Returns:
            The checkpoint; None if none is usable.
        """
        for name in reversed(self._names()):
            try:
                return self._read(name, shapes)
            except _Unusable as problem:
                path = f"{self.directory}/{name}"
                logger.warning("The checkpoint %s is not used: %s. Taking the one before it.", path, problem)
        return None

    def of_other_trainings(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Yields path, step and journal of the latest checkpoint of each other training below the same root."""
        root = posixpath.dirname(self._folder)
        if not self._files.exists(root):
            return
        for folder in sorted(self._files.ls(root, detail=False)):
            other = posixpath.basename(folder.rstrip("/"))
            if other == self._key:
                continue
            checkpoints = Checkpoints(posixpath.dirname(self.directory), other, self._keep)
            for name in checkpoints._names()[-1:]:
                # A damaged one is passed over: it is of no use.
                with contextlib.suppress(Exception), checkpoints._files.open(f"{checkpoints._folder}/{name}") as file:
                    # NumPy reads the description alone.
                    description = json.loads(np.load(file, allow_pickle=False)[_DESCRIPTION].tobytes())
                    yield f"{checkpoints.directory}/{name}", description["step"], description["journal"]

    def clear(self) -> None:
        """Deletes all checkpoints of the training."""
        if self._files.exists(self._folder):
            self._files.rm(self._folder, recursive=True)

    def _names(self) -> list[str]:
        """Returns the names of the checkpoints, the oldest first."""
        if not self._files.exists(self._folder):
            return []
        names = [posixpath.basename(path) for path in self._files.ls(self._folder, detail=False)]
        return sorted(name for name in names if _NAME.fullmatch(name))

    def _delete_superseded(self) -> None:
        for name in self._names()[: -self._keep]:
            self._files.rm_file(f"{self._folder}/{name}")
        aside.remove_abandoned(self._files, self._folder)

    def _read(self, name: str, shapes: dict[str, tuple[int, ...]]) -> Checkpoint:
        key, checkpoint = _parsed(self._files.cat_file(f"{self._folder}/{name}"), f"{self.directory}/{name}", shapes)
        if key != self._key:
            raise _Unusable(f"it belongs to another training ({key})")
        return checkpoint


def read(path: str, shapes: dict[str, tuple[int, ...]]) -> Checkpoint:
    """Reads a checkpoint of any training.

    Args:
        path: Local path or URI of the file.
        shapes: Shapes of the arrays that the checkpoint must contain, by name.

    Raises:
        SettingsError: If there is no such file, or if it cannot be used.
    """
    files, location = storage.located(path)
    try:
        return _parsed(files.cat_file(location), path, shapes)[1]
    except FileNotFoundError as error:
        raise SettingsError(f"trainer.from_checkpoint: there is no file {path}.") from error
    except Exception as error:
        reason = str(error) if isinstance(error, _Unusable) else storage.failure(error, path)
        if reason is None:
            raise
        raise SettingsError(f"trainer.from_checkpoint: {path} cannot be used: {reason}.") from error


def _parsed(content: bytes, path: str, shapes: dict[str, tuple[int, ...]]) -> tuple[str, Checkpoint]:
    """Returns the key of the training and its checkpoint."""
    try:
        stored = np.load(io.BytesIO(content), allow_pickle=False)
        # Reading an array verifies its checksum.
        arrays = {name: stored[name] for name in stored.files}
        description = json.loads(arrays.pop(_DESCRIPTION).tobytes())
        key, step, journal = (description[field] for field in ("key", "step", "journal"))
    except Exception as error:
        # Each damaged byte leads zipfile, NumPy or the JSON parser to an error of another kind.
        raise _Unusable(f"it is damaged ({error})") from error
    stored_shapes = {name: array.shape for name, array in arrays.items()}
    if stored_shapes != shapes:
        names = stored_shapes.keys() | shapes.keys()
        differing = sorted(name for name in names if stored_shapes.get(name) != shapes.get(name))
        raise _Unusable(f"it has other variables ({', '.join(differing[:3])})")
    return key, Checkpoint(path, step, arrays, journal)


class _Unusable(Exception):
    """A checkpoint cannot be used; the message says why."""
