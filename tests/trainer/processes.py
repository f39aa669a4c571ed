"""Trainers in processes of their own, to be killed, or to train together."""

import json
import os
import sys
from multiprocessing.process import BaseProcess

from tests import fork_server

fork_server.preload("trainer.loop", "trainer.__main__", "trainer.outcome")


def _command(arguments: list[str], environment: dict[str, str]) -> None:
    from trainer.__main__ import run

    os.environ |= environment
    sys.argv = ["trainer", *arguments]
    run()


def start(arguments: list[str], environment: dict[str, str] | None = None) -> BaseProcess:
    """Starts what `python -m trainer` does with these arguments."""
    return start_function(_command, arguments, environment or {})


def start_function(function, *arguments) -> BaseProcess:
    """Starts a process for a function of a module."""
    process = fork_server.context.Process(target=function, args=arguments)
    process.start()
    return process


def finish(process: BaseProcess) -> int | None:
    """Waits for the end; the exit code."""
    process.join(timeout=300)
    return process.exitcode


def cluster(ports: list[int], index: int) -> dict[str, str]:
    """The environment of one of several workers on loopback."""
    workers = [f"127.0.0.1:{port}" for port in ports]
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})}
