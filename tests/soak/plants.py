"""Planted bugs: a soak with one of them must end with exit code 1, because a soak that cannot fail proves nothing.

`SOAK_PLANT=NAME make soak` makes the change in a copy of the sources, and tries there the faults that can show it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.slips.copies import copy_sources, made
from tests.slips.slips import Slip

#: The environment variable that names a planted bug.
VARIABLE = "SOAK_PLANT"


class Plant(NamedTuple):
    """A planted bug.

    Attributes:
        slip: The change; its test is not used.
        faults: The names of the faults that show it.
    """

    slip: Slip
    faults: tuple[str, ...]


PLANTS = {
    "resume-from-the-start": Plant(
        Slip(
            "a training that goes on reads its images from the first one again",
            "trainer/loop.py",
            "",
            "",
            "",
        ),
        ("kill-run-components",),
    ),
}


def soak(name: str, arguments: list[str]) -> int:
    """Soaks a copy of the sources that has a planted bug.

    Args:
        name: The name of the bug.
        arguments: The arguments of the soak.

    Returns:
        The exit code of the soak of the copy, which is 1 if it found the bug.
    """
    if name not in PLANTS:
        print(f"{VARIABLE} is {name}, which is no planted bug: {', '.join(PLANTS)}.")
        return 2
    plant = PLANTS[name]
    print(f"Planted: {plant.slip.what}.", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "copy")
        copy_sources(copy)
        with made(copy, plant.slip):
            environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
            command = [sys.executable, "-m", "tests.soak", *arguments, "--only", *plant.faults]
            return subprocess.call(command, cwd=copy, env=environment)
