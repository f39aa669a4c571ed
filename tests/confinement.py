"""Confines a process as a container runtime does: a file system of its own, and a user without rights.

A process gets a mount namespace whose root contains only what is listed and is read-only, and becomes an ordinary user.
Needs Linux, root and the right to create namespaces, and nothing but Python's own library.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

_LIBC = ctypes.CDLL(None, use_errno=True)
# Constants of <sched.h>, <sys/mount.h> and <sys/prctl.h>.
_NEW_MOUNT_NAMESPACE = 0x00020000
_READ_ONLY, _NO_SETUID, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18
_SET_DUMPABLE, _NO_NEW_PRIVILEGES = 4, 38
# Of the machine, for every process: the system's programs and libraries, and the kernel's interfaces.
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt")
_KERNEL = ("proc", "sys")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


class Mount(NamedTuple):
    """A folder or a file of the machine, or a file system in memory, that a confined process sees.

    Attributes:
        at: Where the process sees it.
        source: Path on the machine; None for a file system in memory.
        read_only: Whether the process cannot write it.
        size: Size of a file system in memory, in bytes.
    """

    at: str
    source: str | None
    read_only: bool = False
    size: int = 64 << 20


def obstacle() -> str:
    """Returns why this process cannot confine others, or an empty text."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "the tests do not run as root"
    code = "from tests import confinement; confinement.enter_new_namespace()"
    checkout = Path(__file__).parents[1]
    tried = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"no mount namespace can be created: {tried.stderr.splitlines()[-1]}"


def enter_new_namespace() -> None:
    """Gives this process mounts of its own."""
    _call("unshare", _NEW_MOUNT_NAMESPACE)
    _mount(None, "/", _RECURSIVE | _PRIVATE)


def confine(root: str, mounts: list[list[Any]], user: int, home: str) -> None:
    """Confines this process for good.

    Args:
        root: An empty folder of the machine, over which the new root is mounted.
        mounts: What the process sees besides the system, as lists of the fields of `Mount`.
        user: Id of the user and of the group that the process becomes.
        home: Folder of this user, the process's current directory. It contains nothing.
    """
    # For the folders of the new root as well.
    os.umask(0o022)
    enter_new_namespace()
    _mount_memory(root, 16 << 20, "755")
    _add_system(root)
    os.makedirs(root + home)
    os.chown(root + home, user, user)
    for mount in sorted((Mount(*fields) for fields in mounts), key=lambda mount: mount.at.count("/")):
        _add(root, mount)
    _mount(None, root, _BIND | _REMOUNT | _READ_ONLY | _NO_SETUID)
    os.chroot(root)
    os.chdir(home)
    # In this order: afterwards, the process may change none of them.
    os.setgroups([user])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    # A process that changed its user may not read its own /proc files, unlike one that a container starts.
    _call("prctl", _SET_DUMPABLE, 1, 0, 0, 0)


def _add_system(root: str) -> None:
    for name in _SYSTEM:
        source = f"/{name}"
        if os.path.islink(source):
            os.symlink(os.readlink(source), root + source)
        elif os.path.isdir(source):
            _add(root, Mount(source, source, read_only=True))
    for name in _KERNEL:
        _add(root, Mount(f"/{name}", f"/{name}"))
    os.mkdir(f"{root}/dev")
    for name in _DEVICES:
        _add(root, Mount(f"/dev/{name}", f"/dev/{name}"))
    os.symlink("/proc/self/fd", f"{root}/dev/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"{root}/dev/{name}")


def _add(root: str, mount: Mount) -> None:
    place = root + mount.at
    if not os.path.exists(place):
        _make_room(root, os.path.dirname(mount.at))
    if mount.source is None:
        os.makedirs(place, exist_ok=True)
        _mount_memory(place, mount.size, "1777")
        return
    if os.path.isdir(mount.source):
        os.makedirs(place, exist_ok=True)
    elif not os.path.exists(place):
        os.makedirs(os.path.dirname(place), exist_ok=True)
        open(place, "x").close()
    _mount(mount.source, place, _BIND | _RECURSIVE)
    if mount.read_only:
        # The kernel ignores this flag in the call that binds.
        _mount(None, place, _BIND | _REMOUNT | _READ_ONLY)


def _make_room(root: str, folder: str) -> None:
    """Makes a folder of the new root, or one that is going to contain it, a place where mount points can be created."""
    while not os.path.isdir(root + folder):
        folder = os.path.dirname(folder)
    if not os.statvfs(root + folder).f_flag & os.ST_RDONLY:
        return
    # One of the system's folders, which are at the same path on the machine: mount its entries one by one.
    _mount_memory(root + folder, 1 << 20, "755")
    for entry in os.scandir(folder):
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), root + entry.path)
        else:
            _add(root, Mount(entry.path, entry.path, read_only=True))


def _mount_memory(place: str, size: int, mode: str) -> None:
    _mount("tmpfs", place, _NO_SETUID, "tmpfs", f"size={size},mode={mode}")


def _mount(source: str | None, place: str, flags: int, kind: str | None = None, options: str | None = None) -> None:
    source_bytes, kind_bytes, options_bytes = (text and text.encode() for text in (source, kind, options))
    _call("mount", source_bytes, place.encode(), kind_bytes, ctypes.c_ulong(flags), options_bytes)


def _call(name: str, *arguments: Any) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}", str(arguments))
