"""The program of an interpreter that forks, see `tests.interpreters`.

Needs nothing but Python's own library, and `confinement.py` from its own folder.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import tempfile
import threading
import traceback
import types
from typing import Any, NoReturn

# This program's folder, and not the checkout, is where Python looks for modules until `main` runs.
import confinement

#: File descriptors of one request: the channel to the client, and the command's stdout and stderr.
DESCRIPTORS = 3


def main(control: socket.socket, modules: list[str]) -> None:
    """Imports the modules, and forks for each request until the client is gone."""
    # As for `python -m`: the current directory, instead of this file's.
    sys.path[0] = ""
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    gc.freeze()
    gc.enable()
    # Ended supervisors go without being waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 1, DESCRIPTORS)
        if not data:
            return
        if os.fork() == 0:
            control.close()
            _supervise(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _supervise(channel_descriptor: int, stdout: int, stderr: int) -> NoReturn:
    """Forks the command, and tells the client its process id and, at the end, its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    channel = socket.socket(fileno=channel_descriptor)
    with channel.makefile("r") as lines:
        request = json.loads(lines.readline())
    pid = os.fork()
    if pid == 0:
        channel.close()
        _command(request, stdout, stderr)
    channel.sendall(f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    channel.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _command(request: dict[str, Any], stdout: int, stderr: int) -> NoReturn:
    """Does what Python does with such a command line, from the arguments to the exit code."""
    if request["new_session"]:
        os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, standard in ((nothing, 0), (stdout, 1), (stderr, 2)):
        os.dup2(descriptor, standard)
    for descriptor in {nothing, stdout, stderr} - {0, 1, 2}:
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    # The folder for temporary files is again that of the environment, whatever an imported module has asked for.
    tempfile.tempdir = None
    if request["confinement"]:
        confinement.confine(**request["confinement"])
    else:
        os.chdir(request["cwd"])
    if request["fresh"]:
        os.execve(sys.executable, [sys.executable, *request["arguments"]], request["environment"])
    if "numpy" in sys.modules:
        # Python's own generator does this by itself.
        sys.modules["numpy"].random.seed()
    code = 0
    try:
        _execute(*request["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _execute(option: str, what: str, *arguments: str) -> None:
    if option == "-m":
        sys.argv = [what, *arguments]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    elif option == "-c":
        sys.argv = ["-c", *arguments]
        main_module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), vars(main_module))
    else:
        sys.argv = [what, *arguments]
        runpy.run_path(what, run_name="__main__")


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
