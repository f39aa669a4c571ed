"""What grows: a schedule over many ticks, and a training over many epochs."""

import os
import time
from pathlib import Path

from tests.soak.fault import Attempt, Fault, demand
from tests.soak.scene import WORKDIR, Scene

_TICKS = 200
# Python's allocator and caches take some memory in the first ticks and epochs.
_LARGEST_GROWTH = 1.1
_TICKING = """
import json, os, sys, threading
from pathlib import Path
from zoneinfo import ZoneInfo
from pipeline.local.schedule.service import Service
from pipeline.local.schedule.tick import Runner
from pipeline.local.workdir import Workdir

def used():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {"bytes": pages * os.sysconf("SC_PAGE_SIZE"), "handles": len(os.listdir("/proc/self/fd")),
            "threads": threading.active_count()}

workdir = Workdir(Path("runs"))
runner = Runner([], workdir, retries=0)
# A run that writes as much to its log as one that trains for an hour, and ends with an error, whatever it is given.
runner._command = ["sh", "-c", "head -c 200000 /dev/zero | tr '\\\\0' 'x' >&2; exit 3"]
service = Service("* * * * *", ZoneInfo("UTC"), runner, workdir, say=lambda text: None)
workdir.root.mkdir()
sys.stderr = open(os.devnull, "w")
early = None
for tick in range(int(sys.argv[1])):
    service._tick()
    if tick == 20:
        early = used()
print(json.dumps([early, used()]))
"""


def _ticks(scene: Scene, attempt: Attempt) -> str:
    """Lets one process of a schedule start many runs, each of which writes a log and fails."""
    done = scene.python(attempt.folder, "-c", _TICKING, str(_TICKS))
    demand(done.code == 0, f"The schedule failed: {done.err[-500:]}")
    attempt.tried["a tick of a schedule in the same process"] += _TICKS
    early, late = done.json
    for name in ("handles", "threads"):
        demand(late[name] <= early[name], f"{name}: {late[name]} after {_TICKS} ticks, {early[name]} after 20.")
    demand(late["bytes"] <= _LARGEST_GROWTH * early["bytes"], f"The memory grew from {early} to {late}.")
    logs = sum(path.stat().st_size for path in (attempt.folder / WORKDIR).glob("schedule.log*"))
    demand(logs < 30 << 20, f"The logs of {_TICKS} ticks take {logs >> 20} MiB.")
    return f"memory {early['bytes'] >> 20} to {late['bytes'] >> 20} MiB, logs {logs >> 20} MiB"


def _epochs(scene: Scene, attempt: Attempt) -> str:
    """Trains for 500 epochs, and compares the memory after the first fifth with that at the end."""
    more = ("--set", "trainer.epochs=500", "--set", "trainer.checkpoint.every=50 epochs")
    begin = attempt.folder / "stderr.log"
    process = scene.start(attempt.folder, scene.run_arguments(*more), begin)
    early, late = 0, 0
    while process.poll() is None and "Trainer done" not in begin.read_text():
        saved = list((attempt.folder / WORKDIR / "checkpoints").glob("*/*.npz"))
        steps = max((int(path.stem.removeprefix("step-")) for path in saved), default=0)
        if steps:
            used = _bytes(process.pid)
            early, late = early or used, used or late
        time.sleep(0.1)
    process.kill()
    process.wait()
    attempt.tried["an epoch of one training"] += 500
    demand(early, "The training wrote no checkpoint.")
    demand(late <= _LARGEST_GROWTH * early, f"The memory grew from {early >> 20} to {late >> 20} MiB.")
    return f"memory {early >> 20} to {late >> 20} MiB"


def _bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


FAULTS = [Fault("leak-ticks", 60, _ticks), Fault("leak-epochs", 300, _epochs)]
