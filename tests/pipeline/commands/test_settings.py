"""`nnclr settings` and `nnclr init` from a user's side."""

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console
from rich.text import Text

from pipeline import config, settings_reference
from pipeline.commands import settings
from tests.pipeline.commands.sessions import session


def test_settings_prints_each_on_a_line_of_its_own_however_narrow(tmp_path):
    everything, some, as_json, schema = session(
        tmp_path,
        ["settings"],
        ["settings", "trainer.optimizer", "--preset", "paper"],
        ["settings", "trainer.optimizer", "--preset", "paper", "--json"],
        ["settings", "--json-schema"],
        variables={"COLUMNS": "40"},
    )
    lines = everything.out.splitlines()
    for section in settings_reference.sections():
        assert not section.name or f"{section.name}: {section.description}" in lines
        for setting in section.settings:
            at = next(i for i, line in enumerate(lines) if line.startswith(f"  {setting.name}  {setting.type}"))
            assert lines[at + 1].strip() == setting.description
    assert "  trainer.optimizer.name  string (adam, adamw, sgd or lars), default adam, paper: lars" in some.out
    assert "trainer.optimizer.momentum  number (at least 0, below 1), default 0.9\n" in some.out
    assert "trainer.encoder" not in some.out
    rows = {row["name"]: row for row in as_json.json}
    assert (rows["trainer.optimizer.name"]["default"], rows["trainer.optimizer.name"]["preset"]) == ("adam", "lars")
    assert "preset" not in rows["trainer.optimizer.momentum"]
    assert json.loads(schema.out) == settings_reference.json_schema()


def test_a_narrow_terminal_wraps_and_cuts_nothing_off():
    console = Console(file=io.StringIO(), force_terminal=True, width=30, color_system=None)
    words = [f"word{number}" for number in range(40)]
    settings._write(console, Text(" ".join(words)), indent=6)
    lines = console.file.getvalue().splitlines()
    assert " ".join(lines).split() == words
    assert all(line.startswith(" " * 6) and len(line) <= 30 for line in lines)


def test_a_preset_that_was_shown_is_a_settings_file(tmp_path):
    for name, shown in zip(
        config.presets(), session(tmp_path, *(["presets", "show", name] for name in config.presets())), strict=True
    ):
        (tmp_path / "mine.yaml").write_text(shown.out)
        assert config.load(file=tmp_path / "mine.yaml") == config.load(name)


def test_presets_are_listed_with_what_they_are_for(tmp_path):
    (listed,) = session(tmp_path, ["presets", "list"])
    assert "sample: The demo, on the embedded sample" in listed.out
    assert [line for line in listed.out.splitlines() if not line.endswith(".")] == []


def test_init_writes_settings_that_load_and_overwrites_nothing(tmp_path):
    (first, second) = session(tmp_path, ["init", "new/project"], ["init", "new/project"])
    file = tmp_path / "new" / "project" / "config.yaml"
    assert first.code == 0, first.err
    assert "nnclr run --config new/project/config.yaml" in first.out
    loaded = config.load(file=file)
    assert loaded.data.source == "pictures"
    assert file.read_text().startswith(config.SCHEMA_LINE)
    schema = json.loads((file.parent / config.SCHEMA_FILE).read_text())
    assert schema == settings_reference.json_schema()
    assert second.code == 2
    assert "new/project/config.yaml already exists" in second.err

    file.unlink()
    (third,) = session(tmp_path, ["init", "new/project"])
    assert third.code == 2
    assert config.SCHEMA_FILE in third.err
    assert not file.exists()


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("nnclr run --preset stl10-r", {"stl10-resnet18", "stl10-resnet50"}),
        ("nnclr presets show pap", {"paper"}),
        ("nnclr settings trainer.ch", {"trainer.checkpoint", "trainer.checkpoint.every", "trainer.checkpoint.keep"}),
    ],
)
def test_the_shell_completes_names(words, completed, tmp_path):
    variables = {"_NNCLR_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    process = subprocess.run(
        [sys.executable, "-c", "import sys; from pipeline import cli; sys.argv = ['nnclr']; cli.main()"],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert set(process.stdout.split()) == completed, process.stderr


@pytest.mark.parametrize("arguments", [["settings", "--preset", "sample"], ["init", "project"]])
def test_nothing_heavy_is_loaded(arguments, tmp_path):
    code = (
        "import sys; from pipeline import cli\n"
        f"sys.argv = ['nnclr', *{arguments!r}]\n"
        "try: cli.main()\n"
        "except SystemExit as exit: assert not exit.code\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'mlflow', 'sklearn', 'numpy', 'keras', 'kfp'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 0, process.stderr
