"""Standard streams and a home directory for processes that were started without them."""

import os
import sys
import tempfile
from pathlib import Path


def complete() -> None:
    """Opens closed standard streams, and sets `HOME` if the user has no home directory."""
    _open_closed_streams()
    _ensure_home()


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
