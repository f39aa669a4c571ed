"""What went wrong, as one sentence and an exit code: the one place that every command asks."""

import errno
from collections.abc import Iterator

from trainer.errors import DiskFull, Stopped, UserError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# How TensorFlow, sqlite and others say the same.
_NO_SPACE_TEXTS = ("no space left on device", "database or disk is full", "disk quota exceeded")


class FileProblem(UserError):
    """A file or folder cannot be used, and nothing says by whose fault: its stack trace belongs into the log."""


def as_user_error(error: BaseException) -> UserError | None:
    """The sentence for an error that a user can cause; None for one that is nnclr's own fault.

    Libraries wrap what is raised inside of them, so the errors behind an error count, too.
    """
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, Stopped):
            return cause
    if any(_is_disk_full(cause) for cause in chain):
        where = next((cause.filename for cause in chain if isinstance(cause, OSError) and cause.filename), None)
        return DiskFull(
            f"There is no space left on the disk{f' ({where})' if where else ''}. What was half-written does not "
            "count: make room and start the same command again."
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
