"""Commands of `nnclr`, run for real."""

import json
import os
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
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment |= (variables or {}) | {"COLUMNS": "200"}
    ended = [
        interpreters.commands().run("-m", "pipeline", *command, cwd=cwd, environment=environment)
        for command in commands
    ]
    return [Finished(process.returncode, process.stdout, process.stderr) for process in ended]
