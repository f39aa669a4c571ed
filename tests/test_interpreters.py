"""A forked command is what a fresh interpreter would make of the same command line."""

import json
import signal
import socket
import subprocess
import sys

import pytest

from tests.interpreters import Interpreter

REPORT = """
import json, os, sys
print(json.dumps([sys.argv, os.getcwd(), os.environ.get("COLOUR"), os.environ.get("HOME"), __name__]))
print("careful", file=sys.stderr)
"""


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    return Interpreter(modules=["json"])


def test_arguments_directory_environment_and_streams_are_its_own(interpreter, tmp_path):
    found = interpreter.run("-c", REPORT, "a", "--b", cwd=tmp_path, environment={"COLOUR": "red"})
    assert (found.returncode, found.stderr) == (0, "careful\n")
    assert json.loads(found.stdout) == [["-c", "a", "--b"], str(tmp_path), "red", None, "__main__"]
    (tmp_path / "module.py").write_text(REPORT)
    found = interpreter.run("-m", "module", "c", cwd=tmp_path, environment={})
    arguments, *_, name = json.loads(found.stdout)
    assert (arguments[1:], name) == (["c"], "__main__")


@pytest.mark.parametrize(
    "code",
    ["pass", "raise SystemExit(75)", "raise SystemExit('no')", "raise SystemExit", "1 / 0", "raise KeyError"],
)
def test_it_ends_as_a_fresh_interpreter_does(interpreter, tmp_path, code):
    forked = interpreter.run("-c", code, cwd=tmp_path)
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert forked.returncode == fresh.returncode
    assert forked.stderr.splitlines()[-1:] == fresh.stderr.splitlines()[-1:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_it_can_be_signalled(interpreter, tmp_path, number):
    with interpreter.start("-c", "import time; time.sleep(60)", cwd=tmp_path) as process:
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
        process.send_signal(number)
        assert process.wait(timeout=10) == -number


def test_a_default_timeout_of_sockets_does_not_matter(tmp_path):
    """Beam sets one, in processes that ask Google for credentials."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.001)
    try:
        assert Interpreter(modules=["json", "email.mime.text"]).run("-c", "print(1)", cwd=tmp_path).stdout == "1\n"
    finally:
        socket.setdefaulttimeout(before)


def test_commands_run_at_the_same_time(interpreter, tmp_path):
    code = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)"
    processes = [interpreter.start("-c", code, cwd=tmp_path) for _ in range(3)]
    (tmp_path / "go").touch()
    assert [process.wait(timeout=10) for process in processes] == [0, 0, 0]


def test_a_fresh_interpreter_can_take_the_place_of_the_forked_one(tmp_path):
    interpreter = Interpreter(modules=["wave"])
    code = "import sys; print('wave' in sys.modules)"
    for fresh, answer in ((False, "True"), (True, "False")):
        process = interpreter.start("-c", code, cwd=tmp_path, fresh=fresh)
        assert process.communicate(timeout=60)[0].strip() == answer
        assert process.wait() == 0
