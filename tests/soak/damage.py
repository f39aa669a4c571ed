"""Files that are damaged or missing, a locked or truncated database, and a clock that is wrong."""

import glob
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

from tests.soak.fault import Attempt, Fault, Impossible, demand
from tests.soak.scene import MODEL, WORKDIR, Ended, Scene, demand_sentence, environment
from trainer.errors import BAD_DATA, BUSY, DAMAGED, FAILED

_CLOCK_LIBRARY = "/usr/lib/*/faketime/libfaketimeMT.so.1"
_CHECK_ALL = "import sys; from tests.soak import inspection; inspection.print_unnoticed(*sys.argv[1:])"


def _released_files(scene: Scene, attempt: Attempt) -> str:
    """Changes a byte of each file of a released version, and removes each; then one of them through the command."""
    workdir = scene.copied(attempt.folder)
    done = scene.python(attempt.folder, "-c", _CHECK_ALL, str(workdir), MODEL)
    demand(done.code == 0, f"The files could not be checked: {done.err[-500:]}")
    result = done.json
    for how in ("missing", "changed by a byte"):
        attempt.tried[f"a file of a released version {how}"] += result["files"]
    demand(not result["unnoticed"], f"Unnoticed: {result['unnoticed']}.")
    (folder,) = (workdir / "registry" / "artifacts" / MODEL).glob("*/artifacts/model")
    file = attempt.random.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    _change_a_byte(file, attempt)
    verified = scene.nnclr(attempt.folder, ["models", "verify", "--workdir", WORKDIR])
    demand_sentence(verified, (DAMAGED,), file.name)
    return "named by nnclr models verify, exit code 5"


def _cached_results(scene: Scene, attempt: Attempt) -> str:
    """Changes a byte of a cached result that a later component has to read."""
    workdir = scene.copied(attempt.folder)
    records = sorted(workdir.glob("artifacts/ImageExampleGen/examples/*/Split-*/*"))
    file = attempt.random.choice(records)
    whole = file.read_bytes()
    _change_a_byte(file, attempt)
    attempt.note("a byte changed in cached records")
    # Another seed trains, and evaluates, on the cached images.
    again = scene.run_arguments("--set", "trainer.seed=1", "--set", "evaluator.tolerance=1")
    ended = scene.nnclr(attempt.folder, again)
    demand_sentence(ended, (FAILED, BAD_DATA), file.name)
    file.write_bytes(whole)
    (workdir / "cache-keys.json").write_text("{")
    attempt.note("cache-keys.json cut off")
    ended = scene.nnclr(attempt.folder, again)
    demand(ended.code == 0, f"With whole records again: exit code {ended.code}: {ended.sentence}")
    return "one sentence that names the file; whole again, it goes on"


def _locked_database(scene: Scene, attempt: Attempt) -> str:
    workdir = scene.copied(attempt.folder)
    arguments, seconds = scene.run_arguments(), attempt.random.uniform(5, 15)
    with closing(sqlite3.connect(workdir / "metadata.sqlite", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        process = scene.start(attempt.folder, arguments, attempt.folder / "stderr.log")
        attempt.note("metadata.sqlite locked for some seconds")
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
    ended = Ended(process.wait(), *process.communicate())
    if ended.code:
        demand_sentence(ended, (FAILED,), "metadata.sqlite")
        ended = scene.nnclr(attempt.folder, arguments)
    scene.demand_same(workdir, ended)
    return "waited for, or one sentence; then it goes on"


def _truncated_database(scene: Scene, attempt: Attempt) -> str:
    """Truncates the database of ML Metadata, and then follows the advice that nnclr gives."""
    workdir = scene.copied(attempt.folder)
    database = workdir / "metadata.sqlite"
    # To at most half, so that something is missing that is in use.
    os.truncate(database, attempt.random.randrange(1, database.stat().st_size // 2))
    attempt.note("metadata.sqlite truncated")
    ended = scene.nnclr(attempt.folder, scene.run_arguments())
    demand_sentence(ended, (FAILED,), "metadata.sqlite", "move it elsewhere")
    database.rename(attempt.folder / "elsewhere")
    scene.demand_same(workdir, scene.nnclr(attempt.folder, scene.run_arguments()))
    registry = workdir / "registry" / "mlflow.db"
    os.truncate(registry, attempt.random.randrange(1, registry.stat().st_size // 2))
    attempt.note("mlflow.db truncated")
    for command in (scene.run_arguments(), ["models", "list", "--workdir", WORKDIR]):
        demand_sentence(scene.nnclr(attempt.folder, command), (FAILED,), "registry")
    return "one sentence with advice, which works"


def _two_runs(scene: Scene, attempt: Attempt) -> str:
    first = scene.start(attempt.folder, scene.run_arguments(), attempt.folder / "stderr.log")
    while not (attempt.folder / WORKDIR / ".lock").exists():
        demand(first.poll() is None, "The first run ended at once.")
    second = scene.nnclr(attempt.folder, scene.run_arguments())
    attempt.note("a second run in the same working directory")
    demand_sentence(second, (BUSY,), WORKDIR)
    scene.demand_same(attempt.folder / WORKDIR, Ended(first.wait(), *first.communicate()))
    return "the second one says that the first one runs, exit code 8"


def _clock(scene: Scene, attempt: Attempt) -> str:
    """Runs a finished pipeline again a day later and a day earlier, with fresh processes under libfaketime."""
    libraries = glob.glob(_CLOCK_LIBRARY)
    if not libraries:
        raise Impossible("The clock needs libfaketime, which is not installed (apt-get install libfaketime).")
    workdir = scene.copied(attempt.folder)
    # Version 1 is the champion of each further run, which evaluates again, and prunes the runs of all days.
    for shift in attempt.random.sample(["+1d", "-1d"], 2):
        # Waiting for another thread takes the monotonic clock, which nobody sets.
        fake = environment(LD_PRELOAD=libraries[0], FAKETIME=shift, FAKETIME_DONT_FAKE_MONOTONIC="1")
        done = _fresh(attempt.folder, scene.run_arguments(), fake)
        attempt.note(f"clock set to {shift} for nnclr run")
        demand(done.code == 0, f"{shift}: exit code {done.code}: {done.sentence}")
        pruned = _fresh(attempt.folder, ["prune", "--keep-runs", "1", "--delete", "--workdir", WORKDIR], fake)
        demand(pruned.code == 0, f"nnclr prune, {shift}: exit code {pruned.code}: {pruned.sentence}")
    done = scene.nnclr(attempt.folder, scene.run_arguments())
    scene.demand_same(workdir, done)
    return "same bits, one version"


def _fresh(folder: Path, arguments: list[str], variables: dict[str, str]) -> Ended:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def _change_a_byte(file: Path, attempt: Attempt) -> None:
    content = bytearray(file.read_bytes())
    content[attempt.random.randrange(len(content))] ^= 1 << attempt.random.randrange(8)
    file.write_bytes(content)


FAULTS = [
    Fault("released-files", 40, _released_files),
    Fault("cached-results", 120, _cached_results),
    Fault("database-locked", 60, _locked_database),
    Fault("database-truncated", 150, _truncated_database),
    Fault("two-runs", 120, _two_runs),
    Fault("clock", 200, _clock),
]
