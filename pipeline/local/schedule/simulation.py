"""Some weeks of a schedule in minutes: real runs on data that is new, old, worse, broken, and a crash in the middle."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.data_resolver import spans
from components.image_example_gen import stl10
from components.model_registry import SERVER_VARIABLE, ModelRegistry
from components.model_registry.pipeline_runs import FAILED, NOT_BLESSED, NOTHING_NEW, RELEASED
from pipeline.data import sample
from pipeline.local.schedule.tick import Runner, Ticked
from pipeline.local.workdir import Workdir
from trainer.errors import DataError

MODEL = "nnclr-simulation"
SOURCE = "{YYYY}-{MM}-{DD}"
# Enough to tell encoders apart, and little enough for minutes.
SETTINGS = [
    *("--preset", "sample", "--set", "name=nnclr-simulation", "--set", f"registry.model_name={MODEL}"),
    *("--set", "evaluator.floor=null", "--set", "trainer.epochs=4", "--set", "trainer.warm_start=champion"),
    *("--set", "data.image_size=32", "--set", "evaluator.label_shares=[]"),
]
_COUNTS = {"unlabelled": 4_500, "train": 800, "test": 1_000}
_FEW = _COUNTS["unlabelled"] // 3
_IMAGE_BYTES = stl10.SIZE * stl10.SIZE * 3


@dataclass(frozen=True)
class Story:
    """One tick of the simulation.

    Attributes:
        day: that the data arrives on, and its folder.
        news: what arrived, in words.
        expected: outcome, see `pipeline_runs.PipelineRun`.
        champion: version that must be champion afterwards.
        arrive: writes the data; told the folder of all days.
        crash: whether the run is killed at its first checkpoint.
    """

    day: str
    news: str
    expected: str
    champion: int
    arrive: Callable[[Path], None]
    crash: bool = False


@dataclass(frozen=True)
class Told:
    """A tick, what it came to, the champion afterwards, and how long it took."""

    story: Story
    result: Ticked
    champion: int | None
    seconds: float

    @property
    def as_expected(self) -> bool:
        """Whether it came to what it should, and the champion is who it should be."""
        tries = 2 if self.story.crash else 1
        found = (self.result.outcome, self.champion, self.result.tries)
        return found == (self.story.expected, self.story.champion, tries)


def stories() -> list[Story]:
    """The ticks, in order."""
    return [
        Story("2026-11-02", "new data", RELEASED, 1, lambda days: _first(days / "2026-11-02")),
        Story("2026-11-09", "unchanged: more is still arriving", NOTHING_NEW, 1, _unfinished),
        Story("2026-11-16", "worse data: noise", NOT_BLESSED, 1, _noise),
        Story("2026-11-23", "corrupt data: a file is cut short", FAILED, 1, _corrupt),
        Story("2026-11-30", "more data, and a crash in the middle", RELEASED, 2, _more, crash=True),
    ]


def simulate(workdir: Workdir, tell: Callable[[Story], None] = lambda story: None) -> Iterator[Told]:
    """Runs the ticks one after the other.

    Args:
        workdir: new; data, runs and registry go there.
        tell: told each tick before it starts.
    """
    days = workdir.root / "incoming"
    sample.write_sample(days / "all", counts=_COUNTS)
    arguments = [*SETTINGS, "--data", str(days / SOURCE)]
    # Its runs have a registry of their own, whatever server this machine's other runs use.
    os.environ.pop(SERVER_VARIABLE, None)
    for story in stories():
        tell(story)
        story.arrive(days)
        crash = _Crash(workdir.checkpoints) if story.crash else None
        runner = Runner(arguments, workdir, retries=1, pause_seconds=0.0, on_start=crash or (lambda process: None))
        start = time.monotonic()
        result = runner.tick()
        yield Told(story, result, _champion(workdir), time.monotonic() - start)


class _Crash:
    """Kills the first process as soon as its training has saved its state."""

    def __init__(self, checkpoints: Path):
        self._checkpoints, self._done = checkpoints, False

    def __call__(self, process: subprocess.Popen) -> None:
        if not self._done:
            self._done = True
            threading.Thread(target=self._kill, args=(process, self._saved()), daemon=True).start()

    def _kill(self, process: subprocess.Popen, before: set[Path]) -> None:
        while process.poll() is None:
            if self._saved() - before:
                process.send_signal(signal.SIGKILL)
                return
            time.sleep(0.05)

    def _saved(self) -> set[Path]:
        return set(self._checkpoints.glob("*/*.npz"))


def _champion(workdir: Workdir) -> int | None:
    found = ModelRegistry(str(workdir.registry)).aliased(MODEL, "champion")
    return found.version if found else None


def _first(day: Path) -> None:
    """A third of all images."""
    _copy(day)
    _cut(day, _FEW * _IMAGE_BYTES)
    (day / spans.MARK).touch()


def _unfinished(days: Path) -> None:
    """Without its mark, and written just now."""
    _copy(days / "2026-11-09")


def _noise(days: Path) -> None:
    day = days / "2026-11-16"
    _first(day)
    noise = np.random.default_rng(0).integers(0, 256, _FEW * _IMAGE_BYTES, np.uint8)
    noise.tofile(day / stl10.UNLABELLED_IMAGES)


def _corrupt(days: Path) -> None:
    day = days / "2026-11-23"
    _copy(day)
    _cut(day, _FEW * _IMAGE_BYTES - 1_000)
    (day / spans.MARK).touch()


def _more(days: Path) -> None:
    day = days / "2026-11-30"
    _copy(day)
    (day / spans.MARK).touch()


def _copy(day: Path) -> None:
    shutil.copytree(day.parent / "all", day)


def _cut(day: Path, size: int) -> None:
    with open(day / stl10.UNLABELLED_IMAGES, "r+b") as file:
        file.truncate(size)


def require_new(workdir: Workdir) -> None:
    """A simulation starts from nothing.

    Raises:
        DataError: the folder exists.
    """
    if workdir.root.exists() and any(workdir.root.iterdir()):
        raise DataError(f"{workdir.root} exists already: name a new folder with --workdir, or delete it.")
