"""A checkpoint is whole or not there, local or in Cloud Storage; what cannot be used is named and passed over."""

import errno
import logging
import os
import time
from pathlib import Path

import numpy as np
import pytest

from trainer import aside
from trainer.checkpoints import Checkpoints, key
from trainer.errors import SettingsError

ARRAYS = {"a/0000-kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "pointer": np.array(7, np.int64)}
SHAPES = {name: array.shape for name, array in ARRAYS.items()}
JOURNAL = {"history": [{"step": 3, "c_loss": 0.1 + 0.2}], "seconds": 1.5}


@pytest.fixture(params=["local", "gs", "s3"])
def root(request, tmp_path) -> str:
    if request.param == "local":
        return str(tmp_path / "c")
    fixture = {"gs": "cloud_storage", "s3": "s3"}[request.param]
    return f"{request.param}://{request.getfixturevalue(fixture)}/{tmp_path.name}"


def saved(root, *steps, keep=3) -> Checkpoints:
    checkpoints = Checkpoints(root, "mine", keep)
    for step in steps:
        checkpoints.save(step, ARRAYS | {"pointer": np.array(step, np.int64)}, JOURNAL)
    return checkpoints


def test_the_newest_comes_back_as_it_was(root):
    checkpoints = saved(root, 5, 100, 20)
    found = checkpoints.latest(SHAPES)
    assert (found.step, found.journal) == (100, JOURNAL)
    assert found.path == f"{root}/mine/step-00000100.npz"
    np.testing.assert_array_equal(found.arrays["a/0000-kernel"], ARRAYS["a/0000-kernel"])
    assert found.arrays["pointer"] == 100
    checkpoints.clear()
    assert checkpoints.latest(SHAPES) is None
    checkpoints.clear()


def test_a_folder_that_cannot_be_written_is_named(root, tmp_path):
    Checkpoints(root, "mine", 3).require_writable()
    assert Checkpoints(root, "mine", 3).latest(SHAPES) is None
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=rf"written to {tmp_path}/file/mine \(.+\): choose another folder"):
        Checkpoints(str(tmp_path / "file"), "mine", 3).require_writable()
    if "://" in root:
        with pytest.raises(SettingsError, match=r"written to .*/mine: .* bucket nobody-has-this"):
            Checkpoints(f"{root[:5]}nobody-has-this/c", "mine", 3).require_writable()


def test_only_the_last_ones_are_kept(tmp_path):
    saved(str(tmp_path), 1, 2, 3, 4, keep=2)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["step-00000003.npz", "step-00000004.npz"]


def test_what_a_killed_process_left_aside_is_never_taken_and_is_tidied_away(tmp_path):
    checkpoints = saved(str(tmp_path), 1)
    whole = (tmp_path / "mine" / "step-00000001.npz").read_bytes()
    left, in_the_making = (Path(aside.beside(str(tmp_path / "mine" / "step-00000002.npz"))) for _ in range(2))
    for path in (left, in_the_making):
        path.write_bytes(whole[: len(whole) // 2])
    hours_ago = time.time() - 2 * aside.ABANDONED_AFTER_SECONDS
    os.utime(left, (hours_ago, hours_ago))
    assert checkpoints.latest(SHAPES).step == 1
    checkpoints.save(2, ARRAYS, JOURNAL)
    assert list((tmp_path / "mine").glob(".*")) == [in_the_making]


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99, -1])
def test_a_truncated_one_is_named_and_the_one_before_it_used(tmp_path, caplog, kept):
    checkpoints = saved(str(tmp_path), 1, 2)
    newest = tmp_path / "mine" / "step-00000002.npz"
    content = newest.read_bytes()
    newest.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with caplog.at_level(logging.WARNING, "nnclr"):
        assert checkpoints.latest(SHAPES).step == 1
    assert f"{newest} is not used: it is damaged" in caplog.text


def test_a_flipped_byte_is_found(tmp_path, caplog):
    checkpoints = saved(str(tmp_path), 1, 2)
    newest = tmp_path / "mine" / "step-00000002.npz"
    content = bytearray(newest.read_bytes())
    place = content.index(ARRAYS["a/0000-kernel"].tobytes()) + 9
    content[place] ^= 1
    newest.write_bytes(content)
    assert checkpoints.latest(SHAPES).step == 1
    assert "is damaged" in caplog.text


def test_any_damaged_byte_is_found_or_harmless(tmp_path, caplog):
    checkpoints = saved(str(tmp_path), 1, 2)
    newest = tmp_path / "mine" / "step-00000002.npz"
    content = newest.read_bytes()
    steps = []
    for place in range(len(content)):
        newest.write_bytes(content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :])
        found = checkpoints.latest(SHAPES)
        steps.append(found.step)
        np.testing.assert_array_equal(found.arrays["a/0000-kernel"], ARRAYS["a/0000-kernel"])
        assert (found.journal, found.arrays["pointer"]) == (JOURNAL, found.step)
    # Unused fields of the zip format, such as the time of each file, may differ.
    assert steps.count(1) > len(content) / 2


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    checkpoints = saved(str(tmp_path), 1)

    def full(file, **arrays):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(2, ARRAYS, JOURNAL)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["step-00000001.npz"]


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync

    def noting(descriptor):
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), os.listdir(tmp_path / "mine")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    saved(str(tmp_path), 1)
    ((written, present),) = synced
    assert [Path(written).name] == present
    assert written.endswith(".partial")


def test_a_foreign_one_is_named_and_the_one_before_it_used(tmp_path, caplog):
    mine = saved(str(tmp_path), 1)
    other = Checkpoints(str(tmp_path), "other", 2)
    foreign = other.save(9, ARRAYS, JOURNAL)
    (tmp_path / "mine" / "step-00000009.npz").write_bytes(open(foreign, "rb").read())
    assert mine.latest(SHAPES).step == 1
    assert "step-00000009.npz is not used: it belongs to another training (other)" in caplog.text


def test_one_of_another_network_is_named(tmp_path, caplog):
    checkpoints = saved(str(tmp_path), 1)
    assert checkpoints.latest(SHAPES | {"a/0000-kernel": (3, 3)}) is None
    assert "step-00000001.npz is not used: it has other variables (a/0000-kernel)" in caplog.text


def test_pickles_are_refused(tmp_path, caplog):
    checkpoints = saved(str(tmp_path), 1)
    with open(tmp_path / "mine" / "step-00000002.npz", "wb") as file:
        np.savez(file, evil=np.array([print], dtype=object))
    assert checkpoints.latest(SHAPES).step == 1
    assert "step-00000002.npz is not used" in caplog.text


def test_keys_tell_settings_and_data_apart():
    assert key("a", "b") == key("a", "b")
    assert len({key("a", "b"), key("a", "c"), key("b", "b"), key("ab", "")}) == 4
