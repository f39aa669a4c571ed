"""An engine for Beam outside of the process that starts pipelines: a job server and workers, as Flink has them.

The job server is Beam's own, a process with a directory and a temporary folder of its own. Its workers belong to a
worker pool, which sees another file system: this machine's programs, one folder that it shares, and nothing else.
"""

import contextlib
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import confinement, interpreters
from tests.interpreters import Process

_CHECKOUT = Path(__file__).parents[1]
#: The address of a job server to be used instead of Beam's own: `make test-flink` starts one.
JOB_SERVER_VARIABLE = "NNCLR_TEST_JOB_SERVER"


@dataclass(frozen=True)
class Engine:
    """Addresses of a running engine.

    Attributes:
        job_server: Address of the job server.
        pool: Address of the worker pool.
    """

    job_server: str
    pool: str

    @property
    def settings(self) -> dict[str, str]:
        """The settings with which nnclr uses the engine."""
        return {
            "beam.runner": "PortableRunner",
            "beam.job_endpoint": self.job_server,
            "beam.environment_type": "EXTERNAL",
            "beam.environment_config": self.pool,
        }

    @property
    def options(self) -> list[str]:
        """The same as options of `nnclr`."""
        return [option for name, value in self.settings.items() for option in ("--set", f"{name}={value}")]


@contextmanager
def running(folder: Path, shared: Path) -> Iterator[Engine]:
    """Starts a job server and a worker pool.

    Args:
        folder: An empty folder for the engine's own files.
        shared: The folder that the workers share with this machine.
    """
    with running_job_server(folder / "server") as job_server, running_pool(folder / "pool", shared) as pool:
        yield Engine(job_server, pool)


@contextmanager
def running_job_server(folder: Path) -> Iterator[str]:
    """Starts Beam's own job server, unless the environment names another one, and yields its address."""
    if JOB_SERVER_VARIABLE in os.environ:
        yield os.environ[JOB_SERVER_VARIABLE]
        return
    port = free_port()
    process = interpreters.commands().start(
        *("-m", "apache_beam.runners.portability.local_job_service_main", "--port", str(port)),
        cwd=_made(folder),
        environment=os.environ | {"TMPDIR": str(_made(folder / "tmp"))},
        new_session=True,
    )
    with _serving(process, port) as address:
        yield address


@contextmanager
def running_pool(folder: Path, shared: Path, program: str | None = None) -> Iterator[str]:
    """Starts a worker pool and yields its address.

    Args:
        folder: An empty folder for the pool's own files.
        shared: The folder that the workers share with this machine.
        program: The program that Beam's own pool starts as a worker; by default, workers are forked by `forking_pool`.
    """
    port, home = free_port(), "/var/lib/nnclr"
    folders = [*interpreters.commands().folders, str(_CHECKOUT), *([str(Path(program).parent)] if program else [])]
    mounts = [
        *(confinement.Mount(path, path, read_only=True) for path in folders),
        confinement.Mount("/dev/shm", None),
        confinement.Mount(tempfile.gettempdir(), None),
        confinement.Mount(str(shared), str(shared)),
    ]
    forking = f"import sys; sys.path.insert(0, {str(_CHECKOUT)!r}); from tests import forking_pool as p; p.main({port})"
    own = ("-m", "apache_beam.runners.worker.worker_pool_main", "--service_port", str(port))
    process = interpreters.commands().start(
        *((*own, "--container_executable", program) if program else ("-c", forking)),
        cwd=Path("/"),
        environment=os.environ | {"HOME": home, "PYTHONPATH": str(_CHECKOUT)},
        confinement={
            "root": str(_made(folder)),
            "mounts": [list(mount) for mount in mounts],
            "user": os.getuid(),
            "home": home,
        },
        new_session=True,
    )
    with _serving(process, port) as address:
        yield address


@contextmanager
def _serving(process: Process, port: int) -> Iterator[str]:
    """Waits until a process accepts connections, yields its address, and ends it with its children."""
    try:
        wait_until_served(port, lambda: process.poll() is None)
        yield f"localhost:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)


def wait_until_served(port: int, runs: Callable[[], bool]) -> None:
    """Waits until somebody listens on a port of this machine.

    Args:
        port: The port.
        runs: Whether the process that is going to listen still runs.
    """
    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), 1):
            return
        assert runs(), f"the process that was to listen on port {port} has ended"
        assert time.monotonic() < deadline, f"nobody listens on port {port}"
        time.sleep(0.05)


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
