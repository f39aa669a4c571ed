"""The version of the code that produces a release."""

import hashlib
import os
import subprocess
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path

from components.registry_pusher.provenance import CodeVersion

# An installed package does not record its commit, so the build of a container image sets this variable.
_COMMIT_VARIABLE = "NNCLR_GIT_COMMIT"
#: Stands for the commit of an installed package, or for the digest of a missing lock file.
UNKNOWN = "unknown"


def code_version() -> CodeVersion:
    """Returns the version of the code that runs."""
    lock = lock_file()
    return CodeVersion(
        nnclr_version=metadata.version("nnclr"),
        git_commit=os.environ.get(_COMMIT_VARIABLE) or _commit(_root()),
        lock_sha256=hashlib.sha256(lock.read_bytes()).hexdigest() if lock else UNKNOWN,
    )


def lock_file() -> Traversable | None:
    """Returns `requirements.lock`, which lies inside the package in a wheel and beside it in a checkout."""
    candidates = (resources.files("pipeline") / "requirements.lock", _root() / "requirements.lock")
    return next((path for path in candidates if path.is_file()), None)


def _root() -> Path:
    return Path(__file__).resolve().parent.parent


def _commit(root: Path) -> str:
    if not (root / ".git").exists():
        return UNKNOWN
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return f"{commit}+changes" if _git(root, "status", "--porcelain") else commit
    except (OSError, subprocess.CalledProcessError):
        # Git is not installed, or refuses a checkout that belongs to another user.
        return UNKNOWN


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True).stdout.strip()
