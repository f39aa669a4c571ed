"""A simulation of eight weeks of a schedule: real runs on data that grows, is worse or corrupt, and with a crash."""

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
from pipeline.local.schedule.tick import Runner
from pipeline.local.workdir import Workdir
from trainer.errors import DataError

MODEL = "nnclr-simulation"
SOURCE = "{YYYY}-{MM}-{DD}"
# The training is long enough to tell good encoders from bad ones, and short enough for a run to take a minute.
SETTINGS = [
    *("--preset", "sample", "--set", "name=nnclr-simulation", "--set", f"registry.model_name={MODEL}"),
    *("--set", "evaluator.floor=null", "--set", "trainer.epochs=4", "--set", "trainer.warm_start=champion"),
    *("--set", "data.image_size=32", "--set", "evaluator.label_shares=[]", "--set", "data.spans=all"),
    *("--set", "registry.formats=[]"),
]
_COUNTS = {"unlabelled": 4_500, "train": 800, "test": 1_000}
_IMAGE_BYTES = stl10.SIZE * stl10.SIZE * 3


@dataclass(frozen=True)
class Scenario:
    """What happens at one tick of the simulation.

    Attributes:
        day: The date on which data arrives, and the name of its folder.
        news: A description of what happens.
        expected: The expected outcome; see `pipeline_runs.PipelineRun`.
        champion: The expected version of the champion after the tick.
        write_data: Writes the data of the day. Called with the folder of the day.
        crash: Whether the run is killed after its first checkpoint.
    """

    day: str
    news: str
    expected: str
    champion: int
    write_data: Callable[[Path], None]
    crash: bool = False


@dataclass(frozen=True)
class SimulatedTick:
    """The result of one tick of the simulation.

    Attributes:
        tick: The date of the tick.
        news: A description of what happened.
        outcome: The outcome of the run.
        expected: The expected outcome of the run.
        exit_code: The exit code of the run.
        tries: The number of processes that were started.
        detail: The reason for the outcome.
        probe_accuracy: The linear-probe accuracy of the new encoder, if one was evaluated.
        champion: The version of the champion after the tick, if there is one.
        seconds: The duration of the tick in seconds.
        as_expected: Whether the outcome, the champion and the number of tries are as expected.
    """

    tick: str
    news: str
    outcome: str
    expected: str
    exit_code: int
    tries: int
    detail: str
    probe_accuracy: float | None
    champion: int | None
    seconds: float
    as_expected: bool


def scenarios() -> list[Scenario]:
    """Returns the scenarios of all ticks, in order."""
    return [
        Scenario("2026-11-02", "new data", RELEASED, 1, _write_first),
        Scenario("2026-11-09", "unchanged: more is still arriving", NOTHING_NEW, 1, _write_incomplete),
        Scenario("2026-11-16", "more data, whose labels are mixed up", NOT_BLESSED, 1, _write_mixed_labels),
        Scenario("2026-11-23", "corrupt data: a file is truncated", FAILED, 1, _write_corrupt),
        Scenario("2026-11-30", "noise instead of the corrupt data", FAILED, 1, _write_noise),
        Scenario("2026-12-07", "unchanged: all that was wrong is deleted", NOTHING_NEW, 1, _delete_wrong),
        Scenario("2026-12-14", "more data", RELEASED, 2, _write_second),
        Scenario("2026-12-21", "more data, and a crash during training", RELEASED, 3, _write_third, crash=True),
    ]


def simulate(workdir: Workdir, on_tick: Callable[[Scenario], None] = lambda scenario: None) -> Iterator[SimulatedTick]:
    """Runs all scenarios one after the other.

    Args:
        workdir: A new working directory for the data, the runs and the registry.
        on_tick: Called with each scenario before its tick.
    """
    days = workdir.root / "incoming"
    sample.write_sample(days / "all", counts=_COUNTS)
    arguments = [*SETTINGS, "--data", str(days / SOURCE)]
    # The simulation uses the embedded registry, never the server of the user's other runs.
    os.environ.pop(SERVER_VARIABLE, None)
    for scenario in scenarios():
        on_tick(scenario)
        scenario.write_data(days / scenario.day)
        crash = _Crash(workdir.checkpoints) if scenario.crash else None
        runner = Runner(arguments, workdir, retries=1, pause_seconds=0.0, on_start=crash or (lambda process: None))
        start = time.monotonic()
        result = runner.tick()
        evaluation = result.summary.evaluation if result.summary else None
        seconds = time.monotonic() - start
        champion = _champion_version(workdir)
        observed = (result.outcome, champion, result.tries)
        yield SimulatedTick(
            tick=scenario.day,
            news=scenario.news,
            outcome=result.outcome,
            expected=scenario.expected,
            exit_code=result.exit_code,
            tries=result.tries,
            detail=result.detail,
            probe_accuracy=evaluation.probe_accuracy if evaluation else None,
            champion=champion,
            seconds=round(seconds, 1),
            as_expected=observed == (scenario.expected, scenario.champion, 2 if scenario.crash else 1),
        )


class _Crash:
    """Kills the first process of a run as soon as its training has written a checkpoint."""

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


def _champion_version(workdir: Workdir) -> int | None:
    champion = ModelRegistry(str(workdir.registry)).aliased(MODEL, "champion")
    return champion.version if champion else None


def _write_first(day: Path) -> None:
    """Writes the first third of the unlabelled images."""
    _write_part(day, 0)
    _mark_complete(day)


def _write_second(day: Path) -> None:
    """Writes the second third."""
    _write_part(day, 1)
    _mark_complete(day)


def _write_third(day: Path) -> None:
    """Writes the last third."""
    _write_part(day, 2)
    _mark_complete(day)


def _write_incomplete(day: Path) -> None:
    """Writes images without the mark of a complete folder, as if more were still arriving."""
    _write_part(day, 1)


def _write_mixed_labels(day: Path) -> None:
    """Writes images whose labels are those of other images."""
    _write_part(day, 1)
    for name in (stl10.TRAIN_LABELS, stl10.TEST_LABELS):
        labels = np.fromfile(day / name, np.uint8)
        np.random.default_rng(0).permutation(labels).tofile(day / name)
    _mark_complete(day)


def _write_corrupt(day: Path) -> None:
    """Writes a file that ends in the middle of an image."""
    _write_part(day, 1)
    with open(day / stl10.UNLABELLED_IMAGES, "r+b") as file:
        file.truncate(_part() * _IMAGE_BYTES - 1_000)
    _mark_complete(day)


def _write_noise(day: Path) -> None:
    """Deletes the corrupt data, and writes noise, more than there are images."""
    shutil.rmtree(day.parent / "2026-11-23")
    _write_part(day, 1)
    noise = np.random.default_rng(0).integers(0, 256, 3 * _part() * _IMAGE_BYTES, np.uint8)
    noise.tofile(day / stl10.UNLABELLED_IMAGES)
    _mark_complete(day)


def _delete_wrong(day: Path) -> None:
    """Deletes all data but that of the first day."""
    for wrong in sorted(day.parent.glob("2026-11-*"))[1:]:
        shutil.rmtree(wrong)


def _part() -> int:
    """Returns the number of unlabelled images that arrive in a week."""
    return _COUNTS["unlabelled"] // 3


def _write_part(day: Path, number: int) -> None:
    """Writes a third of the unlabelled images, and all labelled ones."""
    everything = day.parent / "all"
    shutil.copytree(everything, day, ignore=shutil.ignore_patterns(stl10.UNLABELLED_IMAGES))
    images = np.memmap(everything / stl10.UNLABELLED_IMAGES, np.uint8, "r").reshape(-1, _IMAGE_BYTES)
    images[number * _part() : (number + 1) * _part()].tofile(day / stl10.UNLABELLED_IMAGES)


def _mark_complete(day: Path) -> None:
    (day / spans.MARK).touch()


def require_new(workdir: Workdir) -> None:
    """Checks that the working directory of a simulation is new.

    Raises:
        DataError: If the folder exists and is not empty.
    """
    if workdir.root.exists() and any(workdir.root.iterdir()):
        raise DataError(f"{workdir.root} already exists: choose a new folder with --workdir, or delete it.")
