"""Copies of the sources in which one mistake is made at a time."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.slips.slips import Slip

_REPOSITORY = Path(__file__).parents[2]


def copy_sources(copy: Path) -> None:
    """Copies all files that git lists, or would list if they were added."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (_REPOSITORY / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_REPOSITORY / name, copy / name)


@contextmanager
def made(copy: Path, slip: Slip) -> Iterator[None]:
    """Makes a mistake in a copy, and takes it back at the end.

    Raises:
        ValueError: If the text to replace does not stand in the file exactly once.
    """
    path = copy / slip.file
    whole = path.read_text(encoding="utf-8")
    if whole.count(slip.old) != 1:
        raise ValueError(f"The text of the slip no longer stands exactly once in {slip.file}.")
    path.write_text(whole.replace(slip.old, slip.new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(whole, encoding="utf-8")
