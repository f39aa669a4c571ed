"""The files of a version, and the manifest of their sha256 that shows whether they are still intact."""

import hashlib
import json
from pathlib import Path

from trainer.errors import DAMAGED, UserError

# Where MLflow stores the model's artifact `saved_model`, relative to the version's folder.
SAVED_MODEL = Path("artifacts", "saved_model")
#: TFDV's statistics of the images of the version's run, by split. Versions that nnclr 0.1.0 registered lack them.
DATA_STATISTICS = "data_statistics.pb"
MANIFEST = "manifest.json"


class DamagedVersion(UserError):
    """A version's files differ from those that were registered; the message names the files."""

    exit_code = DAMAGED


def write_manifest(directory: Path) -> None:
    """Writes `manifest.json`: the sha256 of every other file below a local directory, by relative path."""
    (directory / MANIFEST).write_text(json.dumps(_file_hashes(directory), indent=2))


def manifest_sha256(directory: Path) -> str:
    """Returns the sha256 of a directory's manifest, which stands for all of the directory's files."""
    return hashlib.sha256((directory / MANIFEST).read_bytes()).hexdigest()


def find_damage(directory: Path, registered_sha256: str) -> list[str]:
    """Compares a local copy of a version with what was registered.

    Args:
        directory: The copy's directory.
        registered_sha256: The sha256 of the version's manifest, from the registry.

    Returns:
        One clause for each file that is missing, was added or has changed; empty if the copy is intact.
    """
    if not (directory / MANIFEST).is_file():
        return [f"{MANIFEST} is missing"]
    if manifest_sha256(directory) != registered_sha256:
        return [f"{MANIFEST} has another sha256 than was registered"]
    expected, actual = json.loads((directory / MANIFEST).read_text()), _file_hashes(directory)
    return [
        *(f"{name} is missing" for name in sorted(expected.keys() - actual.keys())),
        *(f"{name} was added" for name in sorted(actual.keys() - expected.keys())),
        *(
            f"{name} has another sha256"
            for name in sorted(expected.keys() & actual.keys())
            if actual[name] != expected[name]
        ),
    ]


def _file_hashes(directory: Path) -> dict[str, str]:
    hashes = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and name != MANIFEST:
            with open(path, "rb") as file:
                hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes
