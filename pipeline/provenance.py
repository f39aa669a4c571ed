"""Which code made a release."""

import hashlib
import os
import subprocess
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path

from components.registry_pusher.provenance import CodeVersion

# Of an installed package the commit is not known: who builds the image says it.
_COMMIT_VARIABLE = "NNCLR_GIT_COMMIT"
_UNKNOWN = "unknown"


def code_version() -> CodeVersion:
    """Returns the version of the code that runs."""
    lock = lock_file()
    return CodeVersion(
        nnclr_version=metadata.version("nnclr"),
        git_commit=os.environ.get(_COMMIT_VARIABLE) or _commit(_root()),
        lock_sha256=hashlib.sha256(lock.read_bytes()).hexdigest() if lock else _UNKNOWN,
    )


def lock_file() -> Traversable | None:
    """`requirements.lock`: the wheel carries it inside of the package, a checkout beside it."""
    places = (resources.files("pipeline") / "requirements.lock", _root() / "requirements.lock")
    return next((place for place in places if place.is_file()), None)


def _root() -> Path:
    return Path(__file__).resolve().parent.parent


def _commit(root: Path) -> str:
    if not (root / ".git").exists():
        return _UNKNOWN
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return f"{commit}+changes" if _git(root, "status", "--porcelain") else commit
    except (OSError, subprocess.CalledProcessError):
        # No git on this machine, or a checkout that belongs to someone else.
        return _UNKNOWN


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True).stdout.strip()
