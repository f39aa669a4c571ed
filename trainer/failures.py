"""Turns any error into one sentence and an exit code, for every command."""

import errno
from collections.abc import Iterator

from trainer.errors import DiskFull, Stopped, UserError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# The messages of TensorFlow, SQLite and others for a full disk.
_NO_SPACE_TEXTS = ("no space left on device", "database or disk is full", "disk quota exceeded")


class FileProblem(UserError):
    """A file or folder cannot be used for an unknown reason, so the log should contain the stack trace."""


def as_user_error(error: BaseException) -> UserError | None:
    """Returns an error that a user can fix, with one sentence; None for an error that is nnclr's own fault.

    Libraries wrap errors in errors of their own, so the causes of an error are examined, too.
    """
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, Stopped):
            return cause
    if any(_is_disk_full(cause) for cause in chain):
        where = next((cause.filename for cause in chain if isinstance(cause, OSError) and cause.filename), None)
        return DiskFull(
            f"There is no space left on the disk{f' ({where})' if where else ''}. Incomplete files are ignored: "
            "free some space and start the same command again."
        )
    for cause in chain:
        if isinstance(cause, UserError):
            return cause
    if isinstance(error, OSError) and error.filename and error.strerror:
        return FileProblem(f"{error.filename} cannot be used: {error.strerror}.")
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return True
    return any(text in str(error).lower() for text in _NO_SPACE_TEXTS)
