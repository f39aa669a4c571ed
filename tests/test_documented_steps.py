"""Commands and programs of docs/getting-started.md, docs/training.md and docs/api.md, on small data."""

import re
from pathlib import Path

import pytest

from pipeline.data import sample
from tests import interpreters
from tests.documents import REPOSITORY, Command, console_commands
from tests.pipeline.commands.sessions import session

pytestmark = pytest.mark.long

# Replacements that make the commands quick.
_QUICK = {
    "stl10-resnet18": "sample",
    "trainer.epochs=100": "trainer.epochs=1",
    "trainer.time_limit=20m": "trainer.duration=4 steps",
}


def section(document: str, heading: str) -> str:
    text = (REPOSITORY / "docs" / document).read_text(encoding="utf-8")
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def run(command: Command, folder: Path, *more: str) -> int:
    """Runs a command, with its output in the file that it is redirected to, and returns the exit code."""
    program, *arguments = [_QUICK.get(word, word) for word in command.words]
    if program == "python":
        process = interpreters.commands().run(*arguments, *more, cwd=folder)
        assert process.returncode == 0, process.stderr
        return process.returncode
    assert program == "nnclr"
    (finished,) = session(folder, [*arguments, *more])
    assert "Traceback" not in finished.err, finished.err
    if command.output:
        (folder / command.output).write_text(finished.out)
    return finished.code


def test_the_single_steps_and_a_training_from_python(tmp_path):
    sample.write_sample(tmp_path / "pictures", counts={"unlabelled": 300, "train": 120, "test": 100})
    *steps, evaluate = console_commands(section("training.md", "Single steps"))
    assert [run(command, tmp_path) for command in steps] == [0, 0, 0]
    # Such a short training seldom beats an untrained encoder.
    assert run(evaluate, tmp_path) in (0, 4)
    assert {path.name for path in (tmp_path / "results").iterdir()} >= {"report.html", "metrics.json"}

    (program,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "api.md").read_text(), re.DOTALL)
    (tmp_path / "encoder").rename(tmp_path / "first")
    program, count = re.subn(r"epochs=100, batch_size=256", "epochs=1, batch_size=64", program)
    assert count == 1
    process = interpreters.commands().run("-c", program, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "encoder" / "saved_model.pb").is_file()


def test_getting_started(tmp_path):
    sample.write_sample(tmp_path / "pictures", counts={"unlabelled": 300, "train": 120, "test": 100})
    text = (REPOSITORY / "docs" / "getting-started.md").read_text(encoding="utf-8")
    init, train, embed = [c for c in console_commands(text) if c.words[0] == "nnclr" and c.words[1] != "doctor"]
    assert run(init, tmp_path) == 0
    assert run(train, tmp_path, "--set", "data.image_size=32", "--set", "evaluator.beat_untrained=false") == 0
    assert run(embed, tmp_path) == 0
    assert (tmp_path / "embeddings.parquet").is_file()
