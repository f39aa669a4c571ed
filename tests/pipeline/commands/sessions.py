"""Commands of `nnclr`, run for real."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests import interpreters


@dataclass
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out.strip().splitlines()[-1])

    @property
    def states(self) -> dict[str, str]:
        return {component["id"]: component["state"] for component in self.json["components"]}


def session(cwd: Path, *commands: list[str], variables: dict[str, str] | None = None) -> list[Finished]:
    """Runs commands one after the other, each in a process of its own, without a server for a registry."""
    environment = _environment() | (variables or {})
    ended = [
        interpreters.commands().run("-m", "pipeline", *command, cwd=cwd, environment=environment)
        for command in commands
    ]
    return [Finished(process.returncode, process.stdout, process.stderr) for process in ended]


def fresh(cwd: Path, command: list[str]) -> Finished:
    """Runs a command in a fresh interpreter, which loads its modules itself."""
    process = subprocess.run(
        [sys.executable, "-m", "pipeline", *command],
        cwd=cwd,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return Finished(process.returncode, process.stdout, process.stderr)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"} | {"COLUMNS": "200"}
