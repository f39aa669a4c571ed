"""SIGKILL at random moments. The same command is started again each time, until it ends by itself."""

import time

from pipeline.local.schedule import state
from pipeline.local.workdir import Workdir
from tests.soak.fault import Attempt, Fault, demand
from tests.soak.scene import COMPONENTS, SETTINGS, WORKDIR, Scene
from tests.soak.watching import place, started, wait

_KILLED = -9
_MANY_FILES = 3_000
# A component that is shorter is killed at once: the moment at which the kill arrives is random enough.
_SHORT_SECONDS = 0.2


def _run_inside_components(scene: Scene, attempt: Attempt) -> str:
    """Kills a run inside of each component in turn, each time in a new process that goes on with the same work."""
    log = attempt.folder / "stderr.log"
    # A second time in the training, once it has a checkpoint to go on from.
    trainer = COMPONENTS.index("Trainer")
    for number, component in enumerate([*COMPONENTS[: trainer + 1], *COMPONENTS[trainer:]]):
        begin = log.stat().st_size if log.exists() else 0
        process = scene.start(attempt.folder, scene.run_arguments(), log)
        if not started(process, log, begin, component):
            # The component had ended before an earlier kill arrived, and the whole run did.
            process.wait()
            continue
        duration = scene.durations[component]
        if number == trainer + 1:
            while process.poll() is None and not list((attempt.folder / WORKDIR / "checkpoints").glob("*/*.npz")):
                time.sleep(0.01)
        elif duration > _SHORT_SECONDS:
            wait(process, attempt.random.uniform(0, 0.6 * duration))
        process.kill()
        if process.wait() == _KILLED:
            attempt.note(f"SIGKILL of nnclr run {place(log, begin)}")
    return _goes_on(scene, attempt)


def _run_anywhere(scene: Scene, attempt: Attempt) -> str:
    """Kills a run three times at any moment, also while it starts and after its last component."""
    log = attempt.folder / "stderr.log"
    for _ in range(3):
        begin = log.stat().st_size if log.exists() else 0
        process = scene.start(attempt.folder, scene.run_arguments(), log)
        wait(process, attempt.random.uniform(0, scene.seconds))
        process.kill()
        if process.wait() == _KILLED:
            attempt.note(f"SIGKILL of nnclr run {place(log, begin)}")
    return _goes_on(scene, attempt)


def _goes_on(scene: Scene, attempt: Attempt) -> str:
    done = scene.nnclr(attempt.folder, scene.run_arguments())
    scene.demand_same(attempt.folder / WORKDIR, done)
    return "same bits, one version, no file too many"


def _embed(scene: Scene, attempt: Attempt) -> str:
    folder = attempt.folder
    command = ["embed", str(scene.data), "--model", str(scene.model), "-o"]
    start = time.monotonic()
    done = scene.nnclr(folder, [*command, "undisturbed.parquet"])
    demand(done.code == 0, f"nnclr embed without a fault: {done.sentence}")
    duration = time.monotonic() - start
    for _ in range(4):
        process = scene.start(folder, [*command, "e.parquet"], folder / "stderr.log")
        wait(process, attempt.random.uniform(0, 0.6 * duration))
        process.kill()
        if process.wait() == _KILLED:
            attempt.note("SIGKILL of nnclr embed")
    done = scene.nnclr(folder, [*command, "e.parquet"])
    demand(done.code == 0, f"nnclr embed ended with {done.code} after kills: {done.sentence}")
    same = (folder / "e.parquet").read_bytes() == (folder / "undisturbed.parquet").read_bytes()
    demand(same, "The embeddings differ from those of an undisturbed command.")
    left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    demand(not left, f"Files are left: {left}.")
    return "same bytes"


def _prune(scene: Scene, attempt: Attempt) -> str:
    workdir = scene.copied(attempt.folder)
    command = ["prune", "--keep-runs", "0", "--delete", "--workdir", WORKDIR]
    (run,) = (path for path in (workdir / "runs").iterdir() if path.is_dir())
    # So many files that a kill arrives while they are being deleted.
    for number in range(_MANY_FILES):
        (run / f"{number}.txt").touch()
    log, start = attempt.folder / "stderr.log", time.monotonic()
    process = scene.start(attempt.folder, command, log)
    while process.poll() is None and run.exists():
        time.sleep(0.001)
    seconds = time.monotonic() - start
    for _ in range(4):
        process.kill()
        if process.wait() == _KILLED:
            attempt.note("SIGKILL of nnclr prune")
        # The next ones near the same moment.
        process = scene.start(attempt.folder, command, log)
        wait(process, attempt.random.uniform(0.5, 1.2) * seconds)
    process.wait()
    done = scene.nnclr(attempt.folder, command)
    demand(done.code == 0, f"nnclr prune ended with {done.code} after kills: {done.sentence}")
    left = [path for part in ("artifacts", "runs", "checkpoints") for path in (workdir / part).rglob("*")]
    # The page of all runs stays.
    files = [str(path.relative_to(workdir)) for path in left if path.is_file() and path.name != "index.html"]
    demand(not files, f"Files that no run needs are left and will never be deleted: {files[:3]}.")
    return "all deleted"


def _schedule(scene: Scene, attempt: Attempt) -> str:
    """Kills a schedule twice while its run goes on, which outlives it, and starts it again each time."""
    folder, log = attempt.folder, attempt.folder / "stderr.log"
    workdir = Workdir(folder / WORKDIR)
    workdir.root.mkdir()
    # The state that a schedule leaves when it is killed during a run: the next process resumes the run at once.
    state.write(workdir, state.ScheduleState(state=state.RUNNING))
    command = ["schedule", "run", "--cron", "0 3 1 1 *", *SETTINGS, "--data", str(scene.data), "--workdir", WORKDIR]
    for _ in range(2):
        process = scene.start(folder, command, log)
        wait(process, attempt.random.uniform(0, scene.seconds))
        process.kill()
        if process.wait() == _KILLED:
            attempt.note("SIGKILL of nnclr schedule run")
    process = scene.start(folder, command, log)
    # It knows the time of the next run only after the one that it resumed.
    while process.poll() is None and not ((found := state.read(workdir)) and found.next):
        time.sleep(0.1)
    process.terminate()
    demand(process.wait() == 0, f"The schedule ended with {process.returncode}: {log.read_text()[-500:]}")
    demand(found and found.last and found.last.exit_code == 0, f"The last state of the schedule: {found}")
    inspected = scene.inspect(workdir.root)
    demand(inspected == scene.state, f"The working directory differs: {inspected} instead of {scene.state}.")
    return "same bits, one version; resumed each time"


def _promote(scene: Scene, attempt: Attempt) -> str:
    """Kills promotions and rollbacks: the alias is at one of both versions, and the repeated command completes it."""
    folder = attempt.folder
    scene.copied(folder)
    # Another seed is another encoder, which becomes version 2.
    done = scene.nnclr(folder, scene.run_arguments("--set", "trainer.seed=1", "--set", "evaluator.tolerance=1"))
    demand(done.code == 0 and done.json["registry"]["version"] == 2, f"No second version: {done.sentence}")
    command = ["models", "promote", "1", "--reason", "soak", "--workdir", WORKDIR]
    back = ["models", "promote", "2", "--reason", "soak", "--workdir", WORKDIR]
    start = time.monotonic()
    for arguments in (command, back):
        demand(scene.nnclr(folder, arguments).code == 0, "A promotion without a fault failed.")
    duration = (time.monotonic() - start) / 2
    for _ in range(4):
        process = scene.start(folder, command, folder / "stderr.log")
        wait(process, attempt.random.uniform(0.2, 1) * duration)
        process.kill()
        if process.wait() == _KILLED:
            attempt.note("SIGKILL of nnclr models promote")
        aliases = {each["version"]: each["aliases"] for each in scene.inspect(folder / WORKDIR)["versions"]}
        demand(sum("champion" in each for each in aliases.values()) == 1, f"The aliases are {aliases}.")
        done = scene.nnclr(folder, command)
        demand(done.code == 0, f"The repeated promotion failed: {done.sentence}")
        listed = scene.nnclr(folder, ["models", "list", "--json", "--workdir", WORKDIR]).json
        aliases = {each["version"]: each["aliases"] for each in listed}
        demand(aliases == {1: ["champion"], 2: []}, f"The aliases are {aliases} after the repeated promotion.")
        demand(scene.nnclr(folder, back).code == 0, "The promotion back failed.")
    return "the alias is at one of both versions"


FAULTS = [
    Fault("kill-run-components", 150, _run_inside_components),
    Fault("kill-run", 90, _run_anywhere),
    Fault("kill-schedule", 300, _schedule),
    Fault("kill-embed", 40, _embed),
    Fault("kill-prune", 30, _prune),
    Fault("kill-promote", 90, _promote),
]
