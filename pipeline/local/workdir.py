"""The layout of the folder in which everything that a run writes lies."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from components import file_lock
from trainer.errors import BUSY, SettingsError, UserError

DEFAULT = Path("nnclr-runs")

# For TFX's file patterns, and in sqlite:// and file:// addresses.
_MEANINGFUL = "*?[]%#\\"


class Busy(UserError):
    """Another process uses the folder."""

    exit_code = BUSY


@dataclass(frozen=True)
class Workdir:
    """Paths below a working directory.

    Raises:
        SettingsError: its path has a character that file patterns or addresses give a meaning of their own.
    """

    root: Path

    def __post_init__(self) -> None:
        try:
            path = str(self.root.expanduser().absolute())
        except RuntimeError as error:
            raise SettingsError(
                f"The working directory {self.root} names the home directory of a user that this system does not know."
            ) from error
        wrong = next((character for character in path if character in _MEANINGFUL or not character.isprintable()), None)
        if wrong is not None:
            raise SettingsError(
                f"The working directory {path} has the character {wrong!r} in its path, which file patterns and "
                "addresses give a meaning of their own: name another one with --workdir DIR."
            )
        object.__setattr__(self, "root", self.root.expanduser())

    @property
    def sample(self) -> Path:
        return self.root / "data" / "sample"

    @property
    def fingerprints(self) -> Path:
        return self.root / "data" / "fingerprints.json"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def checkpoints(self) -> Path:
        """The state of unfinished trainings; outside of the artifacts, which TFX deletes when a component fails."""
        return self.root / "checkpoints"

    @property
    def metadata(self) -> Path:
        return self.root / "metadata.sqlite"

    @property
    def cache_keys(self) -> Path:
        """What each component's last result depended on, for the log."""
        return self.root / "cache-keys.json"

    @property
    def registry(self) -> Path:
        return self.root / "registry"

    def run(self, run_id: str) -> Path:
        """The folder of one run: its log and its summary."""
        return self.root / "runs" / run_id

    @property
    def schedule(self) -> Path:
        """What the schedule of this folder is doing."""
        return self.root / "schedule.json"

    @property
    def schedule_log(self) -> Path:
        """What the schedule's runs told."""
        return self.root / "schedule.log"

    def is_locked(self) -> bool:
        """Whether a run holds this folder."""
        try:
            with self.locked():
                return False
        except Busy:
            return True

    @contextmanager
    def locked(self, what: str = "run") -> Iterator[None]:
        """Keeps a second run, or a second schedule, out of this folder.

        Raises:
            SettingsError: the folder cannot be written to.
            Busy: another one holds it.
        """
        stack = ExitStack()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = self.root / (".lock" if what == "run" else f".{what}.lock")
            stack.enter_context(file_lock.locked(lock, wait=False))
        except BlockingIOError as error:
            raise Busy(
                f"Another {what} is using {self.root}: wait for it, or give this one its own with --workdir DIR."
            ) from error
        except OSError as error:
            raise SettingsError(f"The working directory {self.root} cannot be used: {error}.") from error
        with stack:
            yield
