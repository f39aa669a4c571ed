"""docs/tutorial.md, file by file and command by command, with fewer pictures and shorter trainings."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from components.model_registry import ModelRegistry
from pipeline.local.schedule import state
from pipeline.local.workdir import Workdir
from tests import interpreters
from tests.documents import REPOSITORY, Command, console_commands
from tests.pipeline.commands.sessions import session

pytestmark = pytest.mark.long

TUTORIAL = (REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8")
_FEWER = {"2000": "600", "600": "200"}
# Every test picture is compared with every other one: these runs show the way, not the encoder.
_QUICK = {
    "trainer": {"epochs": 1, "batch_size": 64, "support_set_size": 200},
    "evaluator": {"beat_untrained": False, "tolerance": None, "label_shares": []},
}


def write_files(folder: Path) -> None:
    """Writes the files that the tutorial tells to save."""
    saved = re.findall(r"Save this as `([^`]+)`.*?\n\n```\w+\n(.*?)```", TUTORIAL, re.DOTALL)
    assert [name for name, _ in saved] == ["draw.py", "config.yaml", "label.py"]
    for name, text in saved:
        (folder / name).write_text(text)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    for section, values in _QUICK.items():
        settings.setdefault(section, {}).update(values)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))


def wait_until(condition: Callable[[], bool], process: interpreters.Process) -> None:
    """Waits until a condition holds, while a process runs."""
    deadline = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)


def last_run(folder: Path) -> state.LastRun | None:
    known = state.read(Workdir(folder / "nnclr-runs"))
    return known and known.last


def run(command: Command, folder: Path) -> str:
    """Runs a command to its end, and returns what it printed."""
    program, *arguments = command.words
    if program == "python" and arguments[0] == "-m":
        process = interpreters.commands().run(*arguments, cwd=folder)
        assert process.returncode == 0, process.stderr
        return process.stdout
    if program == "python":
        script = [sys.executable, *(_FEWER.get(word, word) for word in arguments)]
        return subprocess.run(script, cwd=folder, check=True, capture_output=True, text=True, timeout=120).stdout
    assert program == "nnclr"
    (finished,) = session(folder, arguments)
    assert finished.code == 0, (command, finished.out, finished.err)
    return finished.out


def test_the_tutorial(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_files(tmp_path)
    # The first commands enter the folder.
    entering, *sections = TUTORIAL.split("\n## ")
    assert [command.words[0] for command in console_commands(entering)] == ["source", "mkdir", "cd"]
    first, second, labels, measured, use, weekly, rollback, _ = [list(console_commands(text)) for text in sections]
    for command in [*first, *second, *labels, *measured, *use]:
        run(command, tmp_path)
    registry = ModelRegistry(str(tmp_path / "nnclr-runs" / "registry"))
    assert [version.version for version in registry.versions("patterns")] == [1]

    schedule, next_week, *shown = weekly
    with interpreters.commands().start("-m", "pipeline", *schedule.words[1:], cwd=tmp_path) as process:
        wait_until(lambda: last_run(tmp_path) is not None, process)
        assert last_run(tmp_path).outcome == "nothing new"
        run(next_week, tmp_path)
        wait_until(lambda: last_run(tmp_path).outcome != "nothing new", process)
        assert last_run(tmp_path).outcome == "released", last_run(tmp_path)
        for command in shown:
            run(command, tmp_path)
        process.send_signal(signal.SIGINT)
        process.wait(120)
    assert registry.aliased("patterns", "champion").version == 2

    for command in rollback:
        printed = run(command, tmp_path)
    assert "confuses dots with checks" in printed
    assert registry.aliased("patterns", "champion").version == 1
