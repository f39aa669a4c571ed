"""Files in artifacts, local or in a bucket: how components exchange what TFX's own records cannot hold.

Needs neither TFX nor Beam, so that any program can read what a component wrote.
"""

import io
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from trainer import aside, storage
from trainer.errors import UserError

_Content = TypeVar("_Content", bound=BaseModel)


class DamagedFile(UserError):
    """A file that nnclr wrote holds something else now."""


def damaged(path: str) -> DamagedFile:
    """Returns the error for a file that nnclr wrote and that holds something else now."""
    return DamagedFile(f"{path} is damaged: restore it, or delete it and create it again.")


class Content(BaseModel):
    """The typed content of a JSON file. Fields that a newer version added are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def write(path: str, content: bytes) -> None:
    """Writes a file under a temporary name and renames it, so that no reader sees half of it.

    Args:
        path: Local path or URI of the file. Its folder is created.
        content: Bytes to write.
    """
    files, target = storage.located(path)
    unfinished = aside.beside(target)
    with aside.discarded_on_failure(lambda: files.rm_file(unfinished)):
        files.pipe_file(unfinished, content)
        files.mv(unfinished, target)


def read(path: str) -> bytes:
    """Reads a file.

    Args:
        path: Local path or URI of the file.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    files, target = storage.located(path)
    return files.cat_file(target)


def exists(path: str) -> bool:
    """Returns whether a local path or URI exists."""
    files, target = storage.located(path)
    return files.exists(target)


def write_json(path: str, content: BaseModel) -> None:
    """Writes a model as JSON. See `write`."""
    write(path, content.model_dump_json(indent=2).encode())


def read_json(path: str, model: type[_Content]) -> _Content:
    """Reads what `write_json` wrote.

    Args:
        path: Local path or URI of the file.
        model: Class of the content.

    Raises:
        DamagedFile: If the file holds something else.
        FileNotFoundError: If there is no such file.
    """
    try:
        return model.model_validate_json(read(path))
    except ValidationError as error:
        raise damaged(path) from error


def read_arrays(path: str, *names: str) -> list[np.ndarray]:
    """Reads arrays from an npz file of NumPy's.

    Args:
        path: Local path or URI of the file.
        names: The names of the arrays.

    Raises:
        DamagedFile: If the file holds something else.
        FileNotFoundError: If there is no such file.
    """
    content = read(path)
    try:
        # Reading an array verifies its checksum.
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except Exception as error:
        # Each damaged byte leads zipfile or NumPy to an error of another kind.
        raise damaged(path) from error
