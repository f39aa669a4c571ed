"""A node: runs the container of a pod's manifest as a process, with its mounts, user, environment and end.

Where the tests run as root and may create mount namespaces, a pod sees a read-only root file system with the system's
programs, the Python environment of the image and its volumes, at their real paths, as the image's user. Elsewhere it is
an ordinary process that sees the whole machine, and the session's warnings say so.
"""

import contextlib
import functools
import os
import re
import select
import shutil
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.kubeflow.invocation import ROOT_VARIABLE
from tests import confinement
from tests.interpreters import Interpreter, Process
from tests.pipeline.kubeflow import manifest as manifests
from tests.pipeline.kubeflow.container import ContainerImage

_DOCKERFILE = Path(__file__).parents[3] / "infra" / "Dockerfile"
# The user, group and home of the image.
USER, HOME = 1000, "/var/lib/nnclr"
#: Seconds between SIGTERM and SIGKILL for the processes of a pod that is deleted. The launcher ends on SIGTERM. Argo's
#: wrapper, which is the container's first process, looks once a second whether it has, and all processes end with the
#: wrapper (`Wait` in workflow/executor/osspecific/signal_darwin.go, Argo 3.7). Kubernetes would wait for 30 seconds.
GRACE_SECONDS = 1.0
_TERMINATION_LOG = "/dev/termination-log"
# What container runtimes mount there for a pod that asks for nothing else.
_SHARED_MEMORY = confinement.Mount("/dev/shm", None, size=64 << 20)


@functools.cache
def confines() -> bool:
    """Whether pods are confined. Warns if not."""
    reason = confinement.obstacle()
    if reason:
        warnings.warn(
            f"Pods ran without confinement, because {reason}: nothing showed whether they run as another user, on a "
            "read-only file system, with only their volumes.",
            stacklevel=2,
        )
    return not reason


@dataclass
class Node:
    """What pods find besides their manifest.

    Attributes:
        root: Folder for the pods' disks.
        image: Python of the image, with nnclr in it.
        secrets: Contents of the Secrets, by name and key.
        claims: Folders of the PersistentVolumeClaims, by name. Without confinement, a claim's folder must be the path
            at which the pods mount it.
    """

    root: Path
    image: Interpreter | ContainerImage
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    claims: Mapping[str, Path] = field(default_factory=dict)

    def place(self, manifest: dict[str, Any], task: str, attempt: int) -> "PlacedPod":
        """Prepares the volumes of a pod.

        Args:
            manifest: The pod.
            task: Name of its task.
            attempt: Number of earlier tries of the task.

        Raises:
            RefusedPod: A claim or a Secret does not exist.
        """
        disk = self.root / manifest["metadata"]["name"]
        disk.mkdir(parents=True)
        (main,) = manifest["spec"]["containers"]
        volumes = {volume["name"]: volume for volume in manifest["spec"]["volumes"]}
        mounts = [self._mount(mount, volumes[mount["name"]], manifest, disk) for mount in main["volumeMounts"]]
        return PlacedPod(task, attempt, manifest, disk, self, mounts)

    def _mount(
        self, mount: dict[str, Any], volume: dict[str, Any], manifest: dict[str, Any], disk: Path
    ) -> confinement.Mount:
        at, name = mount["mountPath"], manifest["metadata"]["name"]
        match volume:
            case {"persistentVolumeClaim": {"claimName": claim}}:
                if claim not in self.claims:
                    raise manifests.RefusedPod(f"{name}: the claim {claim} does not exist")
                folder = self.claims[claim]
                assert confines() or str(folder) == at, f"{claim} must be mounted at {folder}, which pods see as it is"
                if group := manifest["spec"]["securityContext"].get("fsGroup"):
                    _open_to_group(folder, group)
                return confinement.Mount(at, str(folder))
            case {"secret": {"secretName": secret}}:
                if secret not in self.secrets:
                    raise manifests.RefusedPod(f"{name}: the Secret {secret} does not exist")
                folder = _made(disk / "mounts" / at.strip("/"))
                folder.chmod(0o755)
                for key, content in self.secrets[secret].items():
                    (folder / key).write_text(content)
                    (folder / key).chmod(0o644)
                return confinement.Mount(at, str(folder), read_only=True)
            case {"emptyDir": {"medium": "Memory", "sizeLimit": size}}:
                return confinement.Mount(at, None, size=int(manifests.number(size)))
        folder = _made(disk / "mounts" / at.strip("/"))
        # Anyone may write into an empty volume.
        folder.chmod(0o777)
        return confinement.Mount(at, str(folder))


@dataclass
class PlacedPod:
    """A pod on its node: its volumes and, once it was started, its process.

    Attributes:
        task: Name of its task.
        attempt: Number of earlier tries of the task.
        manifest: The pod.
        disk: Folder for its volumes.
        node: Where it is.
        mounts: Its volumes.
        lost: Whether it was deleted or lost with its node, so that its exit code does not matter.
    """

    task: str
    attempt: int
    manifest: dict[str, Any]
    disk: Path
    node: Node
    mounts: list[confinement.Mount]
    lost: bool = False
    process: Process | None = None
    _output: bytes = b""

    def on_node(self, path: str) -> Path:
        """Returns where a path of the pod is on the node's disk."""
        for mount in sorted(self.mounts, key=lambda mount: -len(mount.at)):
            if mount.source and PurePosixPath(path).is_relative_to(mount.at):
                return Path(mount.source) / PurePosixPath(path).relative_to(mount.at)
        raise AssertionError(f"{path} lies on no volume of {self.manifest['metadata']['name']}")

    def inside(self, path: str) -> str:
        """Returns under which path the container sees a path of the pod: another one where it is not confined."""
        return path if confines() else str(self.on_node(path))

    def start(self, command: list[str], fresh: bool = False) -> None:
        """Starts the container's own command, as the launcher does.

        Args:
            command: Python and its arguments.
            fresh: Whether Python starts anew, instead of forking from an interpreter that has imported nnclr.
        """
        program, *arguments = command
        assert program in ("python", "python3"), command
        variables = manifests.environment(self.manifest, image_environment(self.node.image), self.node.secrets)
        arguments = [manifests.expanded(argument, variables) for argument in arguments]
        if confines():
            options: dict[str, Any] = {"confinement": self._confinement(), "cwd": Path("/")}
        else:
            options = {"cwd": _made(self.disk / "home")}
            variables[ROOT_VARIABLE] = str(self.disk / "mounts")
        reader, writer = os.pipe()
        with open(writer, "wb") as stream:
            self.process = self.node.image.start(
                *arguments,
                environment=variables,
                stdout=stream,
                stderr=stream,
                new_session=True,
                fresh=fresh,
                **options,
            )
        self._copying = threading.Thread(target=self._copy, args=(reader,))
        self._copying.start()

    def _copy(self, reader: int) -> None:
        """Copies the command's output, as the launcher does, until the output or the launcher ends."""
        with open(reader, "rb", buffering=0) as stream:
            while not self.lost:
                if select.select([stream], [], [], 0.02)[0]:
                    content = stream.read(1 << 16)
                    if not content:
                        return
                    self._output += content

    def output(self) -> str:
        """Returns what the command has written so far."""
        return self._output.decode(errors="replace")

    def wait_for_output(self, text: str, timeout: float = 300) -> None:
        """Waits until the command has written a text."""
        deadline = time.monotonic() + timeout
        while text not in self.output():
            assert self.process, "the pod has not started"
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.02)

    def wait(self, timeout: float = 600) -> tuple[int, str]:
        """Waits for the end of the command, and returns its exit code (negative for a signal) and its output."""
        assert self.process
        try:
            self.process.wait(timeout)
        finally:
            self._signal(signal.SIGKILL)
            self._copying.join()
        return self.process.wait(), self.output()

    def delete(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Deletes the pod, as draining its node does: SIGTERM to all processes, and SIGKILL soon after.

        The launcher ends on SIGTERM at once, so that the command's output leads nowhere from then on.
        """
        assert self.process
        self.lost = True
        self._copying.join()
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_seconds)
        self._signal(signal.SIGKILL)

    def lose(self) -> None:
        """Loses the pod with its node: all processes end at once."""
        assert self.process
        self.lost = True
        self._signal(signal.SIGKILL)
        self.process.wait()

    def kill_python(self) -> None:
        """Kills the container's own command only, as the kernel does that lacks memory."""
        assert self.process
        self.process.kill()

    def termination_message(self) -> str:
        """Returns what Kubernetes shows as the message of the container that has ended."""
        file = self.disk / "termination-log"
        return file.read_text() if file.exists() else ""

    def _signal(self, number: int) -> None:
        assert self.process
        try:
            # Also to what the command has started and left behind.
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            # It has ended, or has only just been forked and leads no group yet.
            self.process.send_signal(number)

    def _confinement(self) -> dict[str, Any]:
        termination_log, users = self.disk / "termination-log", self.disk / "passwd"
        termination_log.touch()
        # As the kubelet creates it.
        termination_log.chmod(0o666)
        users.write_text(f"root:x:0:0:root:/root:/bin/sh\nnnclr:x:{USER}:{USER}::{HOME}:/bin/sh\n")
        users.chmod(0o644)
        mounts = [
            *(confinement.Mount(folder, folder, read_only=True) for folder in self.node.image.folders),
            *([] if any(mount.at == "/dev/shm" for mount in self.mounts) else [_SHARED_MEMORY]),
            *self.mounts,
            confinement.Mount("/etc/passwd", str(users), read_only=True),
            confinement.Mount(_TERMINATION_LOG, str(termination_log)),
        ]
        root = str(_made(self.disk / "root"))
        return {"root": root, "mounts": [list(mount) for mount in mounts], "user": USER, "home": HOME}


def image_environment(image: Interpreter | ContainerImage) -> dict[str, str]:
    """Returns the environment that the image for CPUs sets, with the path of this machine's Python."""
    stages = re.split(r"^FROM ", _DOCKERFILE.read_text(), flags=re.MULTILINE)
    found = {}
    for name in ("runtime", "cpu"):
        (stage,) = [stage for stage in stages if stage.partition("\n")[0].endswith(f" AS {name}")]
        for instruction in re.findall(r"^ENV ((?:.*\\\n)*.*)", stage, flags=re.MULTILINE):
            found.update(re.findall(r"(\w+)=(\S+)", instruction))
    assert {"PATH", "MPLCONFIGDIR", "CUDA_VISIBLE_DEVICES"} <= found.keys(), "infra/Dockerfile has another form now"
    return found | {"PATH": f"{image.python.parent}:{os.defpath}", "NNCLR_GIT_COMMIT": "unknown"}


def give_to_user(path: Path) -> None:
    """Makes files belong to the pods' user, who creates them on a cluster."""
    if confines():
        for found in (path, *path.rglob("*")):
            os.chown(found, USER, USER, follow_symlinks=False)


def _open_to_group(folder: Path, group: int) -> None:
    """Makes a volume writable for a group, as the kubelet does for `fsGroup`."""
    if not confines():
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, -1, group)
        path.chmod(path.stat().st_mode | (0o2770 if path.is_dir() else 0o660))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def remove(pod: PlacedPod) -> None:
    """Deletes the volumes that last as long as the pod."""
    shutil.rmtree(pod.disk)
