"""Runs the tests of engines on Flink: `make test-flink FLINK_JOB_SERVER_JAR=...` starts this program."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import beam_engine

# What the pipelines need beyond Flink's defaults, see docs/flink.md.
_CONFIGURATION = """\
taskmanager.memory.network.min: 1g
taskmanager.memory.network.max: 1g
taskmanager.network.sort-shuffle.min-buffers: 64
"""


def main(jar: str, tests: list[str]) -> int:
    """Starts Beam's job server with a Flink in its process, runs tests on it, and returns pytest's exit code."""
    if not Path(jar).is_file():
        print(
            f"There is no Flink job server of Beam at {jar!r}: make test-flink FLINK_JOB_SERVER_JAR=JAR takes the path "
            "of beam-runners-flink-1.20-job-server-VERSION.jar, in the version of apache-beam in requirements.lock.",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as folder:
        # The names of Flink 1's and Flink 2's files.
        for name in ("flink-conf.yaml", "config.yaml"):
            (Path(folder) / name).write_text(_CONFIGURATION)
        port = beam_engine.free_port()
        server = subprocess.Popen(
            [
                *("java", "-jar", jar, "--flink-master", "[local]", "--flink-conf-dir", folder),
                *("--job-host", "127.0.0.1", "--job-port", str(port), "--artifact-port", "0", "--expansion-port", "0"),
                *("--artifacts-dir", f"{folder}/artifacts"),
            ]
        )
        try:
            beam_engine.wait_until_served(port, lambda: server.poll() is None)
            environment = os.environ | {beam_engine.JOB_SERVER_VARIABLE: f"127.0.0.1:{port}"}
            return subprocess.call([sys.executable, "-m", "pytest", "-m", "", *tests], env=environment)
        finally:
            server.terminate()
            server.wait(timeout=60)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
