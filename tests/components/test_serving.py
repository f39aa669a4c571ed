"""The folder that TensorFlow Serving watches: a version is there as a whole, or not at all."""

from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from components.registry_pusher import serving


@pytest.fixture
def saved_model(tmp_path) -> Path:
    folder = tmp_path / "model"
    for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_published_version_is_the_whole_model(saved_model, tmp_path):
    assert not serving.is_published(str(tmp_path / "served"), 3)
    serving.publish(saved_model, str(tmp_path / "served"), 3)
    assert serving.is_published(str(tmp_path / "served"), 3)
    assert files(tmp_path / "served" / "3") == files(saved_model)


def test_serving_never_sees_a_version_while_its_files_are_copied(saved_model, tmp_path, monkeypatch):
    seen = []
    copy = LocalFileSystem.put_file

    def noting(self, *arguments, **options):
        seen.extend(path.name for path in (tmp_path / "served").iterdir())
        return copy(self, *arguments, **options)

    monkeypatch.setattr(LocalFileSystem, "put_file", noting)
    serving.publish(saved_model, str(tmp_path / "served"), 3)
    assert len(seen) == 3
    assert all(name.startswith(".3.") for name in seen)


def test_a_version_that_another_process_published_first_stays_and_nothing_is_left_over(
    saved_model, tmp_path, monkeypatch
):
    copy = serving._copy

    def slowly(*arguments):
        copy(*arguments)
        # The other process is done first.
        with monkeypatch.context() as patch:
            patch.setattr(serving, "_copy", copy)
            serving.publish(saved_model, str(tmp_path / "served"), 3)

    monkeypatch.setattr(serving, "_copy", slowly)
    serving.publish(saved_model, str(tmp_path / "served"), 3)
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["3"]
    assert files(tmp_path / "served" / "3") == files(saved_model)


def test_withdrawing_leaves_the_version_and_lower_ones(saved_model, tmp_path):
    for version in (1, 2, 3, 10):
        serving.publish(saved_model, str(tmp_path / "served"), version)
    serving.withdraw_above(str(tmp_path / "served"), 2)
    assert sorted(path.name for path in (tmp_path / "served").iterdir()) == ["1", "2"]
