"""A lock on a file, which the operating system releases when the process that holds it ends."""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger("nnclr")

# Errors by which a file system says that it has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Holds an exclusive lock.

    On a file system without locks, such as some network file systems, it logs a warning and holds none.

    Args:
        path: The folder or file to lock. A file is created if it does not exist.
        wait: Whether to wait while another process holds the lock.

    Raises:
        BlockingIOError: If another process holds the lock and `wait` is false.
        OSError: If the file cannot be created.
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
