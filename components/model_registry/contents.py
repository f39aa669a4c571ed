"""What a version's files are, and whether they still are: a manifest of their sha256."""

import hashlib
import json
from pathlib import Path

from trainer.errors import DAMAGED, UserError

# Where MLflow puts the artifact of this name.
SAVED_MODEL = Path("artifacts", "saved_model")
MANIFEST = "manifest.json"


class DamagedVersion(UserError):
    """A version's files are not those that were registered; the message names them."""

    exit_code = DAMAGED


def write_manifest(directory: Path) -> None:
    """Writes `manifest.json`: the sha256 of each other file below a local directory, by relative path."""
    (directory / MANIFEST).write_text(json.dumps(_hashes(directory), indent=2))


def fingerprint(directory: Path) -> str:
    """One sha256 for everything in a directory with a manifest: the manifest's own."""
    return hashlib.sha256((directory / MANIFEST).read_bytes()).hexdigest()


def damage(directory: Path, expected: str) -> list[str]:
    """What differs in a local copy of a version from what was registered, a clause for each file.

    Args:
        directory: the copy.
        expected: its fingerprint, as the registry knows it.
    """
    if not (directory / MANIFEST).is_file():
        return [f"{MANIFEST} is missing"]
    if fingerprint(directory) != expected:
        return [f"{MANIFEST} has another sha256 than was registered"]
    wanted, found = json.loads((directory / MANIFEST).read_text()), _hashes(directory)
    return [
        *(f"{name} is missing" for name in sorted(wanted.keys() - found.keys())),
        *(f"{name} was added" for name in sorted(found.keys() - wanted.keys())),
        *(f"{name} has another sha256" for name in sorted(wanted) if found.get(name, wanted[name]) != wanted[name]),
    ]


def _hashes(directory: Path) -> dict[str, str]:
    found = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and name != MANIFEST:
            with open(path, "rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
