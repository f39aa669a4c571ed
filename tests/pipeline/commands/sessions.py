"""Commands of `nnclr`, run for real."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Several commands in one process: TensorFlow and TFX are loaded once. Each still ends with its own exit code.
_SESSION = """
import json, sys
from pipeline import cli
for command in json.loads(sys.argv[1]):
    sys.argv = ["nnclr", *command]
    try:
        cli.main()
        code = 0
    except SystemExit as exit:
        code = exit.code or 0
    sys.stdout.flush(); sys.stderr.flush()
    for stream in (sys.stdout, sys.stderr):
        print(f"===exit {code}===", file=stream, flush=True)
"""


@dataclass
class Finished:
    """One command of a session."""

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
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment |= variables or {}
    process = subprocess.run(
        [sys.executable, "-c", _SESSION, json.dumps(commands)],
        cwd=cwd,
        env=environment | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    outs, errs = (stream.split("===exit ")[:-1] for stream in (process.stdout, process.stderr))
    codes = [int(part.split("===")[0]) for part in process.stdout.split("===exit ")[1:]]
    assert len(codes) == len(commands), process.stderr
    clean = [[part.split("===\n", 1)[-1] if i else part for i, part in enumerate(parts)] for parts in (outs, errs)]
    return [Finished(*parts) for parts in zip(codes, *clean, strict=True)]
