"""What a process needs from its start: standard streams, a home directory, and file handles."""

import os
import resource
import sys
import tempfile
from pathlib import Path

from trainer.errors import SettingsError

#: How many files a process must be able to open: with too few, gRPC aborts it without a sentence.
LEAST_FILES = 128


def complete() -> None:
    """Opens closed standard streams, and sets `HOME` if the user has no home directory."""
    _open_closed_streams()
    _ensure_home()


def require_file_handles() -> None:
    """Allows as many open files as nnclr's libraries need.

    Raises:
        SettingsError: If the system does not permit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= LEAST_FILES:
        return
    if hard != resource.RLIM_INFINITY and hard < LEAST_FILES:
        raise SettingsError(
            f"A process may open only {hard} files at a time here: allow at least {LEAST_FILES} (ulimit -n)."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (LEAST_FILES, hard))


def discard_output() -> None:
    """Connects stdout and stderr to the null device. To be called when nobody reads them any more."""
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _open_closed_streams() -> None:
    """Connects each closed standard stream (as in `nnclr ... >&-`) to the null device."""
    for descriptor, mode in enumerate(("r", "w", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            # The operating system assigns the lowest free number, which is that of the closed stream.
            os.open(os.devnull, os.O_RDWR)
            stream = open(descriptor, mode, encoding="utf-8", closefd=False)
            setattr(sys, ("stdin", "stdout", "stderr")[descriptor], stream)


def _ensure_home() -> None:
    """Sets `HOME` if it cannot be determined: MLflow cannot be imported without one.

    Containers on OpenShift run as a user that has no name and no home directory.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()
