"""A lock on a file, which the operating system gives up with the process that holds it."""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger("nnclr")

# What file systems without locks answer.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Holds an exclusive lock.

    A file system without locks, as some network ones are, is used without: the log says so.

    Args:
        path: folder to lock, or a file, which is created if need be.
        wait: until another process gives the lock up.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
        OSError: the file cannot be created.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            logger.warning("The file system of %s has no locks: start one command at a time there.", path)
        yield
    finally:
        os.close(descriptor)
