"""Pods in containers of a built image, in the place of confined processes."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tests.confinement import Mount


class ContainerImage:
    """Python of a container image, which starts a container for each command as `interpreters.Interpreter` forks.

    Args:
        engine: The command of podman or docker, with its own options.
        name: Name of the image.

    Attributes:
        python: Path of Python in the image.
        folders: Folders that a container needs from the machine.
    """

    python = Path("/opt/nnclr/bin/python3")
    folders: tuple[str, ...] = ()

    def __init__(self, engine: list[str], name: str):
        self._command = [*engine, "run", "--rm", "--network=host", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        self._name = name

    def start(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        stdout: IO,
        stderr: IO,
        confinement: Mapping[str, Any],
        cwd: Path,
        new_session: bool,
        fresh: bool,
    ) -> subprocess.Popen:
        """Starts Python as the user and with the mounts of `confinement.confine`, on a read-only file system.

        The image has its own working directory, and Python always starts anew.
        """
        options = self._options(confinement["user"])
        for mount in (Mount(*fields) for fields in confinement["mounts"]):
            options += self._mount(mount)
        options += [f"--env={name}={value}" for name, value in environment.items()]
        command = [*self._command, *options, self._name, *arguments]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=new_session
        )

    def describe(self, user: int) -> str:
        """Returns who a container is, and what it may write, as it says itself."""
        code = "import os; print(f'uid {os.getuid()}, may write {os.getcwd()}: {os.access(\".\", os.W_OK)}')"
        command = [*self._command, *self._options(user), self._name, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    @staticmethod
    def _options(user: int) -> list[str]:
        return ["--read-only", f"--user={user}:{user}", "--entrypoint=python3"]

    @staticmethod
    def _mount(mount: Mount) -> list[str]:
        if mount.at == "/etc/passwd":
            # The image names its user itself.
            return []
        if mount.source is None:
            return ["--tmpfs", f"{mount.at}:rw,size={mount.size},mode=1777"]
        return ["--volume", f"{mount.source}:{mount.at}:{'ro' if mount.read_only else 'rw'}"]
