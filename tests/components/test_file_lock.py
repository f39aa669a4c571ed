"""A lock excludes other processes; a file system without locks is used without one, and the log says so."""

import errno
import fcntl
import logging

import pytest

from components import file_lock
from pipeline.local.workdir import Busy, Workdir


def test_a_lock_that_is_held_is_refused_without_waiting(tmp_path):
    with (
        file_lock.locked(tmp_path / "lock"),
        pytest.raises(BlockingIOError),
        file_lock.locked(tmp_path / "lock", wait=False),
    ):
        pass
    with file_lock.locked(tmp_path / "lock", wait=False):
        pass
    workdir = Workdir(tmp_path / "w")
    with workdir.locked(), pytest.raises(Busy, match="Another run is using"), workdir.locked():
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_used_with_a_warning(number, tmp_path, monkeypatch, caplog):
    def refuse(file, operation):
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING, "nnclr"), Workdir(tmp_path / "w").locked():
        pass
    assert "has no locks: start one command at a time there" in caplog.text


def test_any_other_error_is_raised(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output error"), file_lock.locked(tmp_path / "lock"):
        pass
