"""Paths that a user gave."""

from pathlib import Path
from typing import overload

from trainer.errors import SettingsError


@overload
def absolute(path: str) -> str: ...
@overload
def absolute(path: None) -> None: ...
@overload
def absolute(path: str | None) -> str | None: ...
def absolute(path: str | None) -> str | None:
    """Returns a local path as an absolute one, with `~` expanded. URIs and empty paths stay as they are.

    Raises:
        SettingsError: If the path names the home directory of an unknown user.
    """
    if not path or "://" in path:
        return path
    try:
        return str(Path(path).expanduser().resolve())
    except RuntimeError as error:
        raise SettingsError(f"{path} names the home directory of a user that this system does not know.") from error
