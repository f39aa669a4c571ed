"""A real MLflow server on loopback."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Starts a server with sqlite and its own artifacts in a folder, and yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    log = folder / "mlflow.log"
    with open(log, "w") as out:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
                *("--backend-store-uri", f"sqlite:///{folder}/server.db", "--workers", "1"),
                *("--artifacts-destination", str(folder / "server-artifacts")),
            ],
            stdout=out,
            stderr=out,
            # The server would start nine more processes for jobs that nnclr never asks for.
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            start_new_session=True,
        )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/health", timeout=1)
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, log.read_text()
                time.sleep(0.5)
        else:
            raise AssertionError(f"the MLflow server did not come up: {log.read_text()}")
        yield url
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)
