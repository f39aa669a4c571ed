"""What all attempts share: images, a run that nothing disturbed, the start of commands, and the common demands."""

import dataclasses
import functools
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data import sample
from tests import interpreters
from tests.soak.fault import demand

MODEL = "nnclr-sample"
WORKDIR = "runs"
COMPONENTS = (
    *("ChampionResolver", "ImageExampleGen", "SchemaImporter", "StatisticsGen", "ExampleValidator"),
    *("DataGate", "Trainer", "LinearProbeEvaluator", "RegistryPusher"),
)
# The smallest run in which each component does its work, and whose training writes several checkpoints.
SETTINGS = (
    *("--preset", "sample", "--set", "data.image_size=32", "--set", "registry.formats=[]"),
    *("--set", "evaluator.beat_untrained=false", "--set", "evaluator.label_shares=[]", "--set", "evaluator.floor=0"),
    *("--set", "evaluator.least_test_images=1"),
    *("--set", "trainer.encoder={width: 8, batch_norm: false}", "--set", "trainer.projection.batch_norm=false"),
    *("--set", "trainer.precision=float32", "--set", "trainer.epochs=4", "--set", "trainer.batch_size=32"),
    *("--set", "trainer.support_set_size=100", "--set", "trainer.checkpoint.every=2 steps"),
)
_COUNTS = {"unlabelled": 160, "train": 120, "test": 80}
_LIMIT_SECONDS = 420
# What a user must never see.
_STACK_TRACE = "Traceback (most recent call last)"


@dataclass
class Ended:
    """A command that has ended.

    Attributes:
        code: The exit code; the negative number of the signal that ended it.
        out: What it wrote to stdout.
        err: What it wrote to stderr.
    """

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON in the last line of stdout."""
        return json.loads(self.out.strip().splitlines()[-1])

    @property
    def sentence(self) -> str:
        """The last line of stderr, which tells a user why the command failed."""
        return (self.err.strip().splitlines() or [""])[-1]


@dataclass
class Scene:
    """The shared preparations.

    Attributes:
        root: The folder of the soak.
        data: The folder of the images.
        undisturbed: The working directory of a run that nothing disturbed. It must not be changed.
        summary: The summary of this run.
        state: What lies in its working directory, see `inspection`.
        seconds: The duration of the run, with the start of its process.
    """

    root: Path
    data: Path
    undisturbed: Path = Path()
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)
    state: dict[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    @functools.cached_property
    def interpreter(self) -> interpreters.Interpreter:
        """The interpreter that forks for each command."""
        more = ("pipeline.local.embedding", "tests.soak.inspection", "tests.components.releases")
        return interpreters.Interpreter(modules=(*interpreters.COMMAND_MODULES, *more))

    @property
    def model(self) -> Path:
        """The encoder of the undisturbed run."""
        (trained,) = (path for path in self.undisturbed.glob("artifacts/Trainer/model/*") if path.name.isdigit())
        return trained / "Format-Serving"

    @property
    def durations(self) -> dict[str, float]:
        """Seconds that each component took in the undisturbed run."""
        return {component["id"]: component["seconds"] for component in self.summary["components"]}

    def run_arguments(self, *more: str) -> list[str]:
        """The arguments of `nnclr` for the run that is disturbed."""
        return ["run", *SETTINGS, "--data", str(self.data), "--workdir", WORKDIR, "--json", *more]

    def start(self, folder: Path, arguments: list[str], log: Path, **variables: str) -> interpreters.Process:
        """Starts `nnclr ARGUMENTS` in a folder.

        Args:
            folder: The current directory of the process.
            arguments: The arguments.
            log: The file that stderr is appended to.
            variables: Further environment variables.
        """
        return self.interpreter.start(
            "-m", "pipeline", *arguments, cwd=folder, environment=environment(**variables), stderr=open(log, "a+b")
        )

    def nnclr(self, folder: Path, arguments: list[str], **variables: str) -> Ended:
        """Runs `nnclr ARGUMENTS` in a folder to its end."""
        return self.python(folder, "-m", "pipeline", *arguments, **variables)

    def changed(self, folder: Path, prelude: str, arguments: list[str], **variables: str) -> Ended:
        """Runs `nnclr ARGUMENTS` in a folder, in a process that first executes some Python code."""
        code = f"{prelude}\nimport sys\nfrom pipeline import cli\nsys.argv[0] = 'nnclr'\ncli.main()"
        return self.python(folder, "-c", code, *arguments, **variables)

    def python(self, folder: Path, *arguments: str, **variables: str) -> Ended:
        """Runs `python ARGUMENTS` in a folder to its end."""
        done = self.interpreter.run(
            *arguments, cwd=folder, environment=environment(**variables), timeout=_LIMIT_SECONDS
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def inspect(self, workdir: Path, **variables: str) -> dict[str, Any]:
        """Returns what lies in a working directory and its registry, see `inspection`."""
        code = "import sys; from tests.soak import inspection; inspection.print_state(*sys.argv[1:])"
        done = self.python(workdir.parent, "-c", code, str(workdir), MODEL, **variables)
        demand(done.code == 0, f"The working directory cannot be inspected: {done.err[-500:]}")
        return done.json

    def copied(self, folder: Path) -> Path:
        """Returns a copy of the undisturbed working directory in a folder."""
        return Path(shutil.copytree(self.undisturbed, folder / WORKDIR))

    def demand_same(self, workdir: Path, done: Ended) -> None:
        """Demands that a run that was disturbed, and ended in the end, left what the undisturbed one did."""
        demand(done.code == 0, f"The last run ended with exit code {done.code}: {done.sentence}")
        expected, got = self.summary, done.json
        for part, figure in (
            *(("trainer", "steps"), ("trainer", "final_loss"), ("evaluation", "probe_accuracy")),
            *(("evaluation", "untrained_accuracy"), ("evaluation", "blessed")),
        ):
            demand(got[part][figure] == expected[part][figure], f"{figure}: {got[part][figure]} differs.")
        state = self.inspect(workdir)
        for name, value in self.state.items():
            demand(state[name] == value, f"{name}: {_difference(value, state[name])}")
        left = list((workdir / "checkpoints").glob("*/*"))
        demand(not left, f"Checkpoints of a finished training are left: {left[:3]}.")


def prepare(root: Path) -> Scene:
    """Draws the images and runs the pipeline once without any fault.

    Raises:
        Finding: If the run, without any fault, fails.
    """
    scene = Scene(root, root / "images")
    sample.write_sample(scene.data, counts=_COUNTS)
    folder = root / "undisturbed"
    folder.mkdir()
    # The interpreter imports its modules before the clock starts.
    scene.python(folder, "-c", "pass")
    start = time.monotonic()
    done = scene.nnclr(folder, scene.run_arguments())
    demand(done.code == 0, f"The undisturbed run failed with exit code {done.code}:\n{done.err}")
    scene.seconds = time.monotonic() - start
    scene.undisturbed, scene.summary = folder / WORKDIR, done.json
    scene.state = scene.inspect(scene.undisturbed)
    return scene


def environment(**variables: str) -> dict[str, str]:
    """The environment of a command: the machine's without a server for a registry."""
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    quiet = {"COLUMNS": "200", "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    return inherited | quiet | variables


def demand_sentence(ended: Ended, codes: tuple[int, ...], *words: str) -> None:
    """Demands that a command failed as a user deserves: with an exit code, and one sentence without a stack trace."""
    demand(ended.code in codes, f"Exit code {ended.code} instead of {codes}: {ended.sentence}")
    demand(_STACK_TRACE not in ended.err, f"A stack trace is shown: {ended.err[-600:]}")
    missing = [word for word in words if word not in ended.sentence]
    demand(not missing, f"{missing} is not named in: {ended.sentence}")


def _difference(expected: Any, got: Any) -> str:
    if isinstance(expected, list) and isinstance(got, list):
        lost, more = [each for each in expected if each not in got], [each for each in got if each not in expected]
        return f"{len(got)} instead of {len(expected)}; missing {lost[:3]}, additional {more[:3]}."
    return f"{got!r} instead of {expected!r}."
