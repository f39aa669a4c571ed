"""What is still being written has a hidden name of its own, and what was abandoned is deleted."""

import errno
import os
import time
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from components import artifact_files
from trainer import aside, storage


@pytest.mark.parametrize("path", ["a/b/model", "gs://bucket/a/model", "model", "a/model/"])
def test_every_write_has_a_name_of_its_own_which_is_hidden(path):
    names = {aside.beside(path) for _ in range(100)}
    assert len(names) == 100
    folder = path.rstrip("/").rpartition("model")[0]
    for name in names:
        assert name.startswith(f"{folder}.model.")
        assert "/" not in name.removeprefix(folder)


def test_what_cannot_be_written_to_its_end_leaves_nothing(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalFileSystem, "mv", full)
    with pytest.raises(OSError, match="No space left"):
        artifact_files.write(str(tmp_path / "summary.json"), b"content")
    assert list(tmp_path.iterdir()) == []


def test_abandoned_files_and_folders_are_deleted_and_nothing_else(tmp_path):
    left_file, left_folder, growing = (Path(aside.beside(str(tmp_path / name))) for name in ("a", "b", "c"))
    left_file.touch()
    for folder in (left_folder, growing):
        (folder / "variables").mkdir(parents=True)
        (folder / "variables" / "data").touch()
    whole = tmp_path / "model.partial"
    whole.touch()
    long_ago = time.time() - aside.ABANDONED_AFTER_SECONDS - 60
    for path in [whole, left_file, left_folder, *left_folder.rglob("*"), growing, growing / "variables"]:
        os.utime(path, (long_ago, long_ago))
    # In `growing`, one file deep inside is young: somebody is still writing.
    files, folder = storage.located(str(tmp_path))
    aside.remove_abandoned(files, folder)
    assert sorted(tmp_path.iterdir()) == sorted([growing, whole])
    aside.remove_abandoned(files, str(tmp_path / "missing"))


def test_abandoned_objects_in_a_bucket_are_deleted(bucket, monkeypatch):
    files, folder = storage.located(f"{bucket}/models")
    unfinished = aside.beside(f"{folder}/model")
    files.pipe_file(f"{unfinished}/variables/data", b"1")
    files.pipe_file(f"{folder}/model/data", b"1")
    aside.remove_abandoned(files, folder)
    assert files.exists(unfinished)
    monkeypatch.setattr(aside, "ABANDONED_AFTER_SECONDS", -1)
    aside.remove_abandoned(files, folder)
    assert files.find(folder) == [f"{folder}/model/data"]
