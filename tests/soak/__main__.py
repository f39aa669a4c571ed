"""`make soak`: disturbs real processes in every way that is known here, in an order that a seed decides.

Each fault is tried once, and then they are drawn at random until the time is used. The table says what came of each.
The command ends with exit code 1 if nnclr lost anything, or did not say in one sentence why it ended.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NoReturn

from tests.soak import damage, disclosure, fuzzing, kills, leaks, plants, registry, resources, storage
from tests.soak.fault import Attempt, Fault, Finding, Impossible
from tests.soak.scene import Scene, prepare
from tests.soak.table import Table

FAULTS: list[Fault] = [
    *(*kills.FAULTS, *resources.FAULTS, *registry.FAULTS, *storage.FAULTS, *damage.FAULTS, *disclosure.FAULTS),
    *(*fuzzing.FAULTS, *leaks.FAULTS),
]
_UNUSABLE = 2
# Several times as long as any attempt takes on two busy cores.
_LIMIT_SECONDS = 1_800


def main() -> int:
    """Soaks nnclr, and returns the exit code."""
    options = _options()
    unknown = set(options.only) - {fault.name for fault in FAULTS}
    if unknown:
        print(f"There is no fault {', '.join(sorted(unknown))}: see --list.")
        return _UNUSABLE
    if options.list:
        print("\n".join(f"{fault.name:24} {fault.seconds:4.0f} s" for fault in FAULTS))
        return 0
    if plant := os.environ.pop(plants.VARIABLE, ""):
        return plants.soak(plant, [*sys.argv[1:], "--table", str(Path(options.table).absolute())])
    end = time.monotonic() + 60 * options.minutes
    chosen = [fault for fault in FAULTS if not options.only or fault.name in options.only]
    table = Table(Path(options.table), f"# Soak with seed {options.seed}, {options.minutes:g} minutes")
    # Everybody may enter, so that faults can act as a user without rights.
    root = Path(tempfile.mkdtemp(prefix="nnclr-soak-", dir=options.directory))
    root.chmod(0o755)
    print(f"Seed {options.seed}, files in {root}. An undisturbed run comes first ...", flush=True)
    try:
        scene = prepare(root)
    except Finding as finding:
        # No fault was injected: this is no finding of the soak.
        print(finding)
        return _UNUSABLE
    print(f"It took {scene.seconds:.0f} s.", flush=True)
    lost = _soak(scene, chosen, random.Random(options.seed), end, bool(options.only), table)
    print(table)
    if not lost:
        shutil.rmtree(root)
    return 1 if lost else 0


def _soak(scene: Scene, faults: list[Fault], rng: random.Random, end: float, once: bool, table: Table) -> int:
    """Tries the faults until the time is used, and returns the number of attempts with a finding."""
    taken = {fault.name: fault.seconds for fault in faults}
    waiting, number, lost = rng.sample(faults, len(faults)), 0, 0
    skipped: list[str] = []
    while True:
        fault = waiting.pop() if waiting else None
        if fault is None:
            fits = [] if once else [each for each in faults if time.monotonic() + taken[each.name] < end]
            if not fits:
                break
            fault = rng.choice(fits)
        elif time.monotonic() + taken[fault.name] > end:
            skipped.append(fault.name)
            continue
        number += 1
        folder = scene.root / f"{number:03d}-{fault.name}"
        folder.mkdir()
        folder.chmod(0o755)
        attempt = Attempt(folder, random.Random(rng.random()))
        start = time.monotonic()
        outcome, finding = _try(scene, fault, attempt)
        taken[fault.name] = seconds = time.monotonic() - start
        table.add(fault.name, attempt, outcome, finding)
        tried = sum(attempt.tried.values())
        print(f"{fault.name:24} {tried:3} times in {seconds:4.0f} s: {finding or outcome}", flush=True)
        if finding:
            lost += 1
            print(f"{'':24} Its files are in {folder}.", flush=True)
        else:
            shutil.rmtree(folder)
    if skipped:
        table.note(f"Not tried, because the time was used: {', '.join(sorted(skipped))}.")
    table.note(f"{number} attempts, {lost} of them with a finding.")
    return lost


def _try(scene: Scene, fault: Fault, attempt: Attempt) -> tuple[str, str | None]:
    """Returns what came of an attempt, and what was wrong, if anything was."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(_LIMIT_SECONDS)
    try:
        outcome = fault.attempt(scene, attempt)
    except Finding as finding:
        return "a finding", str(finding)
    except Impossible as obstacle:
        attempt.tried["not possible here"] = 0
        return str(obstacle), None
    except Exception as error:
        traceback.print_exc()
        return "a finding", f"The attempt ended with {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    if not attempt.tried:
        return "a finding", "The fault could not be injected."
    return outcome, None


def _too_long(*_: object) -> NoReturn:
    raise Finding(f"The attempt did not end within {_LIMIT_SECONDS} s: a process waits for something.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="seed of all random choices")
    parser.add_argument("--minutes", type=float, default=60, help="time after which no attempt begins (default: 60)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="try these faults, once each")
    parser.add_argument("--list", action="store_true", help="list the faults")
    parser.add_argument("--table", default="soak.md", help="file for the table (default: soak.md)")
    parser.add_argument("--directory", help="folder for all files, on the disk to test (default: that of TMPDIR)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
