"""The working directory: the folder that holds everything that runs write."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from components import file_lock
from trainer.errors import BUSY, SettingsError, UserError

DEFAULT_WORKDIR = Path("nnclr-runs")

# Characters with a special meaning in TFX's file patterns or in sqlite:// and file:// addresses.
_SPECIAL_CHARACTERS = "*?[]%#\\"


class Busy(UserError):
    """Another process is using the working directory."""

    exit_code = BUSY


@dataclass(frozen=True)
class Workdir:
    """Paths in a working directory.

    Attributes:
        root: The path of the working directory. `~` is expanded.

    Raises:
        SettingsError: If the path contains a character with a special meaning in file patterns or addresses, or the
            name of an unknown user after `~`.
    """

    root: Path

    def __post_init__(self) -> None:
        try:
            path = str(self.root.expanduser().absolute())
        except RuntimeError as error:
            raise SettingsError(
                f"The working directory {self.root} is in the home directory of a user who does not exist."
            ) from error
        special = next((c for c in path if c in _SPECIAL_CHARACTERS or not c.isprintable()), None)
        if special is not None:
            raise SettingsError(
                f"The path of the working directory {path} contains the character {special!r}, which has a special "
                "meaning in file patterns and addresses: choose another folder with --workdir DIR."
            )
        object.__setattr__(self, "root", self.root.expanduser())

    @property
    def sample(self) -> Path:
        """The embedded sample of images."""
        return self.root / "data" / "sample"

    @property
    def fingerprints(self) -> Path:
        """The folder that keeps the digests of the files of image sources."""
        return self.root / "data" / "fingerprints"

    @property
    def artifacts(self) -> Path:
        """The folder of all components' outputs (TFX's pipeline root)."""
        return self.root / "artifacts"

    @property
    def checkpoints(self) -> Path:
        """The folder of unfinished trainings' checkpoints; TFX deletes the artifacts of failed components."""
        return self.root / "checkpoints"

    @property
    def metadata(self) -> Path:
        """The database of ML Metadata."""
        return self.root / "metadata.sqlite"

    @property
    def cache_keys(self) -> Path:
        """The file with the parts of each component's last cache key, which the log compares."""
        return self.root / "cache-keys.json"

    def require_registry(self) -> None:
        """Requires a model registry: the embedded one, or the server in `MLFLOW_TRACKING_URI`.

        Raises:
            SettingsError: If there is none.
        """
        if not os.environ.get("MLFLOW_TRACKING_URI") and not self.registry.exists():
            raise SettingsError(
                f"There is no model registry in {self.root}: run the pipeline first, or choose another --workdir."
            )

    @property
    def registry(self) -> Path:
        """The folder of the embedded model registry."""
        return self.root / "registry"

    def run(self, run_id: str) -> Path:
        """Returns the folder of a run, with its log, its summary and its report."""
        return self.root / "runs" / run_id

    @property
    def overview(self) -> Path:
        """The page of all runs."""
        return self.root / "runs" / "index.html"

    @property
    def schedule(self) -> Path:
        """The file with the state of this folder's schedule."""
        return self.root / "schedule.json"

    @property
    def schedule_log(self) -> Path:
        """The file with the messages of the schedule's latest runs; `schedule.log.1` has those of the runs before."""
        return self.root / "schedule.log"

    def is_locked(self) -> bool:
        """Returns whether a run is using this folder."""
        try:
            with self.locked():
                return False
        except Busy:
            return True

    @contextmanager
    def locked(self, what: str = "run") -> Iterator[None]:
        """Locks this folder, so that no second run, or no second schedule, uses it at the same time.

        Args:
            what: The kind of process that holds the lock: `run` or `schedule`.

        Raises:
            SettingsError: If the folder cannot be written to.
            Busy: If another process of this kind holds the lock.
        """
        stack = ExitStack()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = self.root / (".lock" if what == "run" else f".{what}.lock")
            stack.enter_context(file_lock.locked(lock, wait=False))
        except BlockingIOError as error:
            raise Busy(
                f"Another {what} is using {self.root}: wait until it ends, or choose another folder with --workdir DIR."
            ) from error
        except OSError as error:
            raise SettingsError(f"The working directory {self.root} cannot be used: {error}.") from error
        with stack:
            yield
