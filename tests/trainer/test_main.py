"""`python -m trainer`: its help, and what it says of wrong usage."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import interpreters


def run(*arguments: str) -> subprocess.CompletedProcess:
    return interpreters.commands().run("-m", "trainer", *arguments, cwd=Path.cwd())


def test_help_is_instant_and_has_examples():
    code = (
        "import sys, runpy\n"
        "sys.argv = ['trainer', '--help']\n"
        "try: runpy.run_module('trainer', run_name='__main__')\n"
        "except SystemExit as exit: code = exit.code\n"
        'sys.exit(f\'loaded {sys.modules.keys() & {"tensorflow", "keras", "tfx"}}\' '
        "if code or {'tensorflow', 'keras', 'tfx'} & set(sys.modules) else 0)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 0, process.stderr
    text = " ".join(process.stdout.replace("│", " ").split())
    assert "python -m trainer examples/ encoder/ --config mine.yaml --set trainer.epochs=100" in text
    assert "Exit codes" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["in", "out", "--set", "trainer.epoch=1"], 2, "Did you mean trainer.epochs?"),
        (["in", "out", "--config", "missing.yaml"], 2, "The settings file missing.yaml cannot be read"),
        (["in", "out", "--set", "trainer.warm_start=champion"], 2, "only the pipeline knows the champion"),
        (["in", "out", "--set", "trianer.epochs=1"], 2, "--set trianer.epochs=1: python -m trainer reads only the"),
        (["in"], 2, "Missing argument"),
    ],
)
def test_wrong_usage_is_told_in_one_sentence(arguments, code, message):
    process = run(*arguments)
    assert process.returncode == code
    assert message in " ".join(process.stderr.split())
    assert "Traceback" not in process.stderr


def test_a_folder_without_records_is_named(tmp_path):
    process = run(str(tmp_path), str(tmp_path / "out"))
    assert process.returncode == 3
    assert process.stderr.splitlines()[-1] == f"Error: No TFRecord file matches {tmp_path}/Split-unlabelled/*."


def test_a_presets_file_is_read_and_its_other_sections_ignored(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: x\ndata: {image_size: 96}\ntrainer: {epochs: 0}\n")
    process = run("in", "out", "--config", str(file))
    assert process.returncode == 2
    assert "trainer.epochs: 0 is not allowed" in process.stderr
    file.write_text("trianer: {epochs: 1}\ndata: {image_size: 96}\n")
    process = run("in", "out", "--config", str(file))
    assert process.returncode == 2
    assert f"{file} has no section trainer; it has trianer, data." in " ".join(process.stderr.split())
