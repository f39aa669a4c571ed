"""Interpreters that have imported TensorFlow, TFX and MLflow, and fork for each command.

A command that a test runs is a process of its own, with its own arguments, environment, directory, streams and exit
code, and can be signalled and killed. It only spares the 10 to 20 seconds in which a fresh interpreter imports the same
modules. What a fresh interpreter prints or loads as it starts is tested with `subprocess`.
"""

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

_REPOSITORY = Path(__file__).parents[1]
_SERVER = Path(__file__).with_name("forking_server.py")
#: What `nnclr run` imports before its first component runs, and what its components import.
COMMAND_MODULES = (
    *("sklearn.linear_model", "sklearn.neighbors", "matplotlib.figure", "mlflow.pyfunc", "mlflow.tracking.client"),
    *("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
    *("tfx.orchestration.local.local_dag_runner", "tfx.dsl.compiler.compiler", "pipeline.cli", "pipeline.dag"),
    *("pipeline.local.runner", "pipeline.local.cache", "pipeline.local.pruning", "pipeline.local.summary"),
    *("components.registry_pusher.executor", "components.linear_probe_evaluator.executor"),
    *("components.image_example_gen.executor", "components.champion_resolver.executor", "trainer.run_fn"),
    *("pipeline.kubeflow.compile", "pipeline.kubeflow.host"),
)


class Process:
    """A command that an `Interpreter` runs; its methods are those of `subprocess.Popen`."""

    def __init__(self, arguments: list[str], channel: socket.socket, stdout, stderr):
        self.args, self.returncode = arguments, None
        self._channel, self._lines = channel, channel.makefile("r")
        self._stdout, self._stderr = stdout, stderr
        self._lock = threading.Lock()
        self.pid = self._number()

    def poll(self) -> int | None:
        """The exit code, or None while the process runs."""
        with self._lock:
            if self.returncode is None and select.select([self._channel], [], [], 0)[0]:
                self.returncode = self._number()
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end and returns the exit code: the signal's number, negative, for a process that was killed.

        Raises:
            subprocess.TimeoutExpired: The process did not end within `timeout` seconds.
        """
        if self.returncode is None and not select.select([self._channel], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for the end and returns what the process wrote to stdout and stderr."""
        self.wait(timeout)
        return _text(self._stdout), _text(self._stderr)

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.wait()

    def _number(self) -> int:
        line = self._lines.readline()
        assert line, "the interpreter that forks is gone"
        return int(line)


class Interpreter:
    """An interpreter that has imported modules, and forks for each command.

    Args:
        python: Path of the interpreter.
        modules: Names of the modules that it imports before its first command.
        cwd: Directory in which it starts, where Python finds the modules that are not installed.

    Attributes:
        python: Path of the interpreter.
    """

    def __init__(self, python: str | Path = sys.executable, modules: Iterable[str] = (), cwd: Path = _REPOSITORY):
        self.python = Path(python)
        self._control, theirs = _socket_pair()
        with theirs:
            self._server = subprocess.Popen(
                [python, _SERVER, str(theirs.fileno()), *modules],
                cwd=cwd,
                # Another environment's interpreter must not see this checkout.
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        weakref.finalize(self, _end, self._control, self._server)

    def start(
        self,
        *arguments: str | Path,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        stdout: IO | None = None,
        stderr: IO | None = None,
        new_session: bool = False,
        confinement: Mapping[str, Any] | None = None,
        fresh: bool = False,
    ) -> Process:
        """Starts what `python ARGUMENTS` does.

        Args:
            arguments: `-m` and a module, `-c` and code, or a script; and its arguments.
            cwd: The process's current directory.
            environment: All its environment variables; this process's if None.
            stdout: A file for its output; a temporary one if None.
            stderr: The same for its errors.
            new_session: Whether the process leads a session of its own.
            confinement: Arguments of `confinement.confine`, which then also sets the current directory; None for a
                process that is not confined.
            fresh: Whether a new interpreter takes the forked one's place, which has imported nothing.
        """
        channel, theirs = _socket_pair()
        stdout = tempfile.TemporaryFile() if stdout is None else stdout
        stderr = tempfile.TemporaryFile() if stderr is None else stderr
        with theirs:
            descriptors = [theirs.fileno(), stdout.fileno(), stderr.fileno()]
            socket.send_fds(self._control, [b"."], descriptors)
        request = {
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(cwd),
            "environment": dict(os.environ if environment is None else environment),
            "new_session": new_session,
            "confinement": confinement,
            "fresh": fresh,
        }
        channel.sendall(f"{json.dumps(request)}\n".encode())
        return Process(request["arguments"], channel, stdout, stderr)

    @functools.cached_property
    def folders(self) -> list[str]:
        """The folders that this Python and its packages consist of."""
        code = "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, *sys.path]))"
        listed = json.loads(self.run("-c", code, cwd=Path("/")).stdout)
        folders = {path for path in listed if os.path.isabs(path) and os.path.isdir(path)}
        return sorted(path for path in folders if not any(str(parent) in folders for parent in Path(path).parents))

    def run(
        self,
        *arguments: str | Path,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        timeout: float = 900,
    ) -> subprocess.CompletedProcess[str]:
        """Runs what `python ARGUMENTS` does, to its end."""
        process = self.start(*arguments, cwd=cwd, environment=environment)
        with process:
            stdout, stderr = process.communicate(timeout)
        return subprocess.CompletedProcess(process.args, process.wait(), stdout, stderr)


@functools.cache
def commands() -> Interpreter:
    """The interpreter for all commands of `nnclr` that this process's tests run."""
    return Interpreter(modules=COMMAND_MODULES)


def popen(command: list[str], stdout: IO, stderr: IO, start_new_session: bool) -> Process:
    """Starts a command line as `subprocess.Popen` does, by forking where it is one of this process's interpreter."""
    assert command[0] == sys.executable
    environment = dict(os.environ)
    return commands().start(
        *command[1:],
        cwd=Path.cwd(),
        environment=environment,
        stdout=stdout,
        stderr=stderr,
        new_session=start_new_session,
    )


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    """Connected sockets that wait for each other without a limit, whatever default Beam has set for all sockets."""
    pair = socket.socketpair()
    for end in pair:
        end.settimeout(None)
    return pair


def _end(control: socket.socket, server: subprocess.Popen) -> None:
    # Without a client the server ends.
    control.close()
    server.wait(timeout=60)


def _text(file) -> str:
    # The position in the file is shared with the process that wrote into it.
    content = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
    return content.decode(errors="replace")
