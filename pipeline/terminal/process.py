"""What libraries take for granted of a process and some callers do not give: standard streams, and a home directory."""

import os
import sys
import tempfile
from pathlib import Path


def complete() -> None:
    """Opens standard streams that are closed, and names a home directory where there is none."""
    _open_closed_streams()
    _have_a_home()


def _open_closed_streams() -> None:
    """Sends to nowhere what goes to a standard stream that the caller closed (`nnclr ... >&-`)."""
    for descriptor, mode in enumerate(("r", "w", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is the closed one's.
            os.open(os.devnull, os.O_RDWR)
            stream = open(descriptor, mode, encoding="utf-8", closefd=False)
            setattr(sys, ("stdin", "stdout", "stderr")[descriptor], stream)


def _have_a_home() -> None:
    """In a container whose user has no name, as OpenShift's have, MLflow cannot even be imported."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()
