"""What a machine runs out of: room on the disk, rights, file handles, memory."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.terminal.process import LEAST_FILES
from tests.soak.fault import Attempt, Fault, Impossible, demand
from tests.soak.scene import WORKDIR, Scene, demand_sentence
from tests.soak.watching import started, wait
from trainer.errors import DISK_FULL, FAILED, WRONG_USAGE

_DISK_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 14
# The components that write much, in their order.
_WRITERS = ("ImageExampleGen", "StatisticsGen", "Trainer", "LinearProbeEvaluator", "RegistryPusher")
_NOBODY = 65534
_AS_NOBODY = f"import os; os.setgroups([]); os.setgid({_NOBODY}); os.setuid({_NOBODY})"


def _full_in_components(scene: Scene, attempt: Attempt) -> str:
    """Fills the disk of the working directory and of temporary files inside of each component that writes much."""
    with _disk(attempt.folder / "disk") as disk:
        temporary = _temporary(disk)
        for component in _WRITERS:
            log = attempt.folder / f"{component}.log"
            process = scene.start(disk, scene.run_arguments(), log, TMPDIR=temporary)
            if started(process, log, 0, component):
                wait(process, attempt.random.uniform(0, 0.5 * scene.durations[component]))
            _fill(disk)
            code = process.wait()
            (disk / "ballast").unlink()
            if code == 0:
                # The run had written everything before.
                break
            attempt.note(f"no space left inside {component}")
            lines = log.read_text().strip().splitlines()
            demand(code == DISK_FULL, f"{component}: exit code {code} instead of {DISK_FULL}: {lines[-1:]}")
            demand("Traceback" not in "\n".join(lines), f"{component}: a stack trace is shown: {lines[-5:]}")
            demand("no space left" in lines[-1], f"{component}: {lines[-1]}")
        done = scene.nnclr(disk, scene.run_arguments(), TMPDIR=temporary)
        scene.demand_same(disk / WORKDIR, done)
    return "one sentence, exit code 74; with room again the same bits"


def _full_while_embedding(scene: Scene, attempt: Attempt) -> str:
    command = ["embed", str(scene.data), "--model", str(scene.model), "-o", "e.parquet"]
    undisturbed = scene.nnclr(attempt.folder, command)
    demand(undisturbed.code == 0, f"nnclr embed without a fault: {undisturbed.sentence}")
    with _disk(attempt.folder / "disk") as disk:
        temporary = _temporary(disk)
        # Between nothing and what it needs.
        _fill(disk, leave=attempt.random.randrange(0, (attempt.folder / "e.parquet").stat().st_size))
        full = scene.nnclr(disk, command, TMPDIR=temporary)
        attempt.note("no space left during nnclr embed")
        demand_sentence(full, (DISK_FULL,), "no space left")
        demand(not (disk / "e.parquet").exists(), "An incomplete file is visible.")
        (disk / "ballast").unlink()
        done = scene.nnclr(disk, command, TMPDIR=temporary)
        demand(done.code == 0, f"With room again: {done.sentence}")
        same = (disk / "e.parquet").read_bytes() == (attempt.folder / "e.parquet").read_bytes()
        demand(same, "The embeddings differ from those of an undisturbed command.")
    return "one sentence, exit code 74; with room again the same bytes"


def _read_only(scene: Scene, attempt: Attempt) -> str:
    """Remounts the disk of a finished run read-only."""
    with _disk(attempt.folder / "disk") as disk:
        scene.copied(disk)
        _mount("-o", "remount,ro", str(disk))
        for command in (scene.run_arguments(), ["prune", "--delete", "--workdir", WORKDIR]):
            ended = scene.nnclr(disk, command)
            attempt.note(f"read-only working directory for nnclr {command[0]}")
            demand_sentence(ended, (WRONG_USAGE,), WORKDIR, "Read-only")
        listed = scene.nnclr(disk, ["models", "list", "--json", "--workdir", WORKDIR])
        attempt.note("read-only working directory for nnclr models list")
        demand(_is_stack_free(listed.err), f"nnclr models list shows a stack trace: {listed.err[-500:]}")
        _mount("-o", "remount,rw", str(disk))
        scene.demand_same(disk / WORKDIR, scene.nnclr(disk, scene.run_arguments()))
    return "one sentence; writable again, it goes on"


def _no_permission(scene: Scene, attempt: Attempt) -> str:
    """Runs commands as another user than the one who owns the working directory."""
    scene.copied(attempt.folder)
    home = attempt.folder / "home"
    home.mkdir()
    home.chmod(0o777)
    for command in (scene.run_arguments(), ["prune", "--delete", "--workdir", WORKDIR]):
        ended = scene.changed(attempt.folder, _AS_NOBODY, command, HOME=str(home), TMPDIR=str(home))
        attempt.note(f"no permission for nnclr {command[0]}")
        demand_sentence(ended, (WRONG_USAGE,), WORKDIR, "Permission denied")
    return "one sentence"


def _few_handles(scene: Scene, attempt: Attempt) -> str:
    """Allows a run few file handles: fewer than nnclr demands, and then just as many or some more."""
    few, enough = attempt.random.randrange(10, LEAST_FILES), attempt.random.randrange(LEAST_FILES, 2 * LEAST_FILES)
    for limit in (few, enough):
        prelude = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))"
        ended = scene.changed(attempt.folder, prelude, scene.run_arguments())
        attempt.note(f"{'too few' if limit == few else 'few'} file handles for nnclr run")
        if limit == few:
            demand_sentence(ended, (WRONG_USAGE,), str(few))
        else:
            demand(ended.code == 0, f"With {limit} file handles: exit code {ended.code}: {ended.sentence}")
    done = scene.nnclr(attempt.folder, scene.run_arguments())
    scene.demand_same(attempt.folder / WORKDIR, done)
    return "one sentence; with enough handles the same bits"


def _little_memory(scene: Scene, attempt: Attempt) -> str:
    """Lets the kernel kill runs that take more memory than their control group has."""
    # Beside what it shares with the interpreter that it was forked from; the least first, as finished work is cached.
    for limit in sorted(attempt.random.randrange(20, 250) for _ in range(4)):
        with _memory_group(limit << 20) as group:
            prelude = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')"
            ended = scene.changed(attempt.folder, prelude, scene.run_arguments())
        if ended.code == 0:
            break
        attempt.note("too little memory for nnclr run")
        # The kernel may also choose a process that the run started.
        demand(ended.code in (-signal.SIGKILL, FAILED), f"Exit code {ended.code}: {ended.sentence}")
        demand(_is_stack_free(ended.err), f"A stack trace is shown: {ended.err[-600:]}")
    done = scene.nnclr(attempt.folder, scene.run_arguments())
    scene.demand_same(attempt.folder / WORKDIR, done)
    return "killed by the kernel, or one sentence; with enough memory the same bits"


@contextmanager
def _memory_group(limit: int) -> Iterator[Path]:
    """Makes a control group, of either version, whose processes together may take a number of bytes."""
    first = Path("/sys/fs/cgroup/memory")
    group = (first if first.exists() else first.parent) / f"nnclr-soak-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if first.exists() else "memory.max")).write_text(str(limit))
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        raise Impossible(f"A control group cannot be made: {error}.") from error
    try:
        yield group
    finally:
        for process in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        while (group / "cgroup.procs").read_text().strip():
            time.sleep(0.05)
        group.rmdir()


def _is_stack_free(text: str) -> bool:
    return "Traceback (most recent call last)" not in text


@contextmanager
def _disk(place: Path) -> Iterator[Path]:
    """Mounts a small disk in memory."""
    place.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={_DISK_BYTES},mode=777", "tmpfs", str(place))
    try:
        yield place
    finally:
        # Processes that a killed command left may still use it.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Impossible(f"A disk of its own cannot be mounted: {done.stderr.strip()}")


def _temporary(disk: Path) -> str:
    folder = disk / "temporary"
    folder.mkdir()
    return str(folder)


def _fill(disk: Path, leave: int = 0) -> None:
    """Writes a file that leaves a number of bytes free."""
    with open(disk / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(_BLOCK_BYTES))
        except OSError:
            pass
        if leave:
            ballast.truncate(max(ballast.tell() - leave, 0))


FAULTS = [
    Fault("disk-full", 150, _full_in_components),
    Fault("disk-full-embed", 40, _full_while_embedding),
    Fault("read-only", 60, _read_only),
    Fault("no-permission", 20, _no_permission),
    Fault("file-handles", 100, _few_handles),
    Fault("memory", 100, _little_memory),
]
