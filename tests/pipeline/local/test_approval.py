"""The transcript of a manual approval in docs/releases.md, command by command, with a real MLflow server."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.model_registry import ModelRegistry
from pipeline.data import sample
from tests import mlflow_server
from tests.pipeline.commands.sessions import session
from tests.pipeline.local.test_run import TINY

pytestmark = pytest.mark.long

DOCUMENT = Path(__file__).parents[3] / "docs" / "releases.md"


def transcript() -> list[tuple[str, list[str]]]:
    """Returns the documented commands, each with the lines that it prints; `...` stands for others."""
    section = DOCUMENT.read_text().partition("## Approval")[2]
    block = re.search(r"```console\n\$ (.*?)\n```", section, re.DOTALL)[1]
    parts = [part.split("\n") for part in block.split("\n$ ")]
    return [(command, lines) for command, *lines in parts]


def shows(line: str, printed: str) -> bool:
    """Returns whether a documented line was printed, whatever the widths of the cells of a table."""

    def plain(text: str) -> str:
        return re.sub(r" +", " ", text).strip()

    pattern = re.escape(plain(line)).replace(r"\.\.\.", ".*")
    return any(re.fullmatch(pattern, plain(found)) for found in printed.splitlines())


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[str]:
    """The address of a server without models: the transcript begins with the first version."""
    with mlflow_server.running(tmp_path) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        yield url


def test_the_documented_approval(tmp_path, server):
    sample.write_sample(tmp_path / "tiny", counts={"unlabelled": 640, "train": 300, "test": 200})
    (export, _), *commands = transcript()
    assert export.startswith("export MLFLOW_TRACKING_URI=")
    # Two short trainings differ by more than the gate tolerates.
    tiny = [*TINY, "--set", "evaluator.tolerance=null", "--data", "tiny"]
    for command, lines in commands:
        program, *words = shlex.split(command)
        assert program == "nnclr"
        if words[:3] == ["run", "--preset", "sample"]:
            words = ["run", *tiny, *words[3:]]
        elif words[0] == "models":
            words = [*words, "--name", "nnclr-sample"]
        (finished,) = session(tmp_path, words, variables={"MLFLOW_TRACKING_URI": server})
        assert finished.code == 0, finished.err
        for line in lines:
            assert line == "..." or shows(line, finished.out), (line, finished.out)
    registry = ModelRegistry("unused")
    assert [(version.version, version.aliases) for version in registry.versions("nnclr-sample")] == [
        *((2, ("champion",)), (1, ())),
    ]
    moves = [(move.alias, move.version, move.kind) for move in registry.history("nnclr-sample")]
    assert moves == [
        *(("challenger", 1, "push"), ("champion", 1, "promote")),
        *(("challenger", 2, "push"), ("champion", 2, "promote")),
    ]
