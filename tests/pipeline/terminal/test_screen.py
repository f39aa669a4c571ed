"""The progress display outlives whoever reads it."""

import subprocess
import sys

import pytest

WORK = """
import pathlib, sys
from rich.console import Console
from pipeline.terminal.screen import LastingConsole, Screen

with Screen({console}(file=sys.stderr)) as screen:
    screen.say("first")
    sys.stdin.readline()
    for _ in range(3):
        screen.say("nobody reads this")
    pathlib.Path(sys.argv[1]).touch()
"""


@pytest.mark.parametrize(("console", "goes_on"), [("LastingConsole", True), ("Console", False)])
def test_work_goes_on_when_nobody_reads_its_progress_any_more(tmp_path, console, goes_on):
    """As in a pod that is deleted: the launcher reads the output and ends first."""
    saved = tmp_path / "saved"
    command = [sys.executable, "-c", WORK.format(console=console), saved]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr.readline() == "first\n"
        worker.stderr.close()
        worker.stdin.write("\n")
        worker.stdin.close()
        assert (worker.wait(timeout=60) == 0) == goes_on
    assert saved.exists() == goes_on
