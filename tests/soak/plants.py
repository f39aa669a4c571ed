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


_WRONG_USAGE = 2
_PUSH = "components/registry_pusher/push.py"
_VERIFY = "            _require_intact(registry, version)\n"
_MOVE = (
    "            registry.move_alias(name, Move(alias, None, version.version, history.PUSH, pipeline_run, reason))\n"
    "            moved = True\n"
)
PLANTS = {
    "alias-before-verify": Plant(
        Slip("the alias moves before the version was verified", _PUSH, _VERIFY + _MOVE, _MOVE + _VERIFY, ""),
        ("registry",),
    ),
    "resume-without-optimiser": Plant(
        Slip(
            "a training that goes on forgets the state of its optimiser",
            "trainer/resuming.py",
            "    for name, variable in variables.items():\n        variable.assign(",
            "    for name, variable in variables.items():\n        'optimizer' in name or variable.assign(",
            "",
        ),
        ("kill-run-components",),
    ),
    "prune-forgets-renamed": Plant(
        Slip(
            "prune leaves what a killed prune had renamed",
            "pipeline/local/pruning.py",
            "[*_half_deleted(workdir), *(",
            "[*(",
            "",
        ),
        ("kill-prune",),
    ),
    "full-disk-unknown": Plant(
        Slip(
            "a full disk is an unknown error",
            "trainer/failures.py",
            "    if any(_is_disk_full(cause) for cause in chain):",
            "    if not chain:",
            "",
        ),
        ("disk-full-embed",),
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
        return _WRONG_USAGE
    plant = PLANTS[name]
    print(f"Planted: {plant.slip.what}.", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "copy")
        copy_sources(copy)
        try:
            with made(copy, plant.slip):
                environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
                command = [sys.executable, "-m", "tests.soak", *arguments, "--only", *plant.faults]
                return subprocess.call(command, cwd=copy, env=environment)
        except ValueError as error:
            print(error)
            return _WRONG_USAGE
