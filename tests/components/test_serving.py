"""The folder that TensorFlow Serving watches: versions are complete or absent, and those of others stay."""

import shutil
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from components.model_registry import ModelRegistry
from components.registry_pusher import serving
from components.registry_pusher.serving import Published
from trainer.errors import SettingsError


@pytest.fixture
def saved_model(tmp_path) -> Path:
    folder = tmp_path / "model"
    for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def version(number: int, sha256: str = "5a", model: str = "encoder", created: int = 7) -> Published:
    return Published(model, created, number, sha256)


def files(folder: Path) -> dict[str, str]:
    texts = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    return {name: text for name, text in texts.items() if name != "nnclr-release.json"}


def test_a_published_version_has_all_files_of_the_model(saved_model, tmp_path):
    assert not serving.is_published(str(tmp_path / "served"), version(3))
    serving.publish(saved_model, str(tmp_path / "served"), version(3))
    assert serving.is_published(str(tmp_path / "served"), version(3))
    assert files(tmp_path / "served" / "3") == files(saved_model)


def test_serving_never_sees_a_version_while_its_files_are_copied(saved_model, tmp_path, monkeypatch):
    seen = []
    copy = LocalFileSystem.put_file

    def noting(self, *arguments, **options):
        seen.extend(path.name for path in (tmp_path / "served").iterdir())
        return copy(self, *arguments, **options)

    monkeypatch.setattr(LocalFileSystem, "put_file", noting)
    serving.publish(saved_model, str(tmp_path / "served"), version(3))
    assert len(seen) == 3
    assert all(name.startswith(".3.") for name in seen)


def test_a_version_that_another_process_published_first_stays_without_leftovers(saved_model, tmp_path, monkeypatch):
    copy = serving._copy

    def slowly(*arguments):
        copy(*arguments)
        # The other process finishes first.
        with monkeypatch.context() as patch:
            patch.setattr(serving, "_copy", copy)
            serving.publish(saved_model, str(tmp_path / "served"), version(3))

    monkeypatch.setattr(serving, "_copy", slowly)
    serving.publish(saved_model, str(tmp_path / "served"), version(3))
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["3"]
    assert files(tmp_path / "served" / "3") == files(saved_model)


def test_withdrawing_keeps_the_version_and_lower_ones(saved_model, tmp_path):
    for number in (1, 2, 3, 10):
        serving.publish(saved_model, str(tmp_path / "served"), version(number))
    serving.withdraw_above(str(tmp_path / "served"), version(2))
    assert sorted(path.name for path in (tmp_path / "served").iterdir()) == ["1", "2"]


@pytest.fixture
def registry(empty_registry, tmp_path, monkeypatch) -> ModelRegistry:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(empty_registry, tmp_path / "registry")
    return ModelRegistry(str(tmp_path / "registry"))


def test_versions_of_another_model_registry_or_tool_are_never_replaced_or_deleted(saved_model, tmp_path, registry):
    served = str(tmp_path / "served")
    registry.connection.client.create_registered_model("encoder")
    ours = version(1, created=registry.created_ms("encoder"))
    serving.publish(saved_model, served, ours)
    serving.require_usable(registry, "encoder", served)
    assert serving.is_published(served, ours)
    for other in (
        version(1, model="other", created=ours.model_created),
        version(1, created=ours.model_created + 1),
        version(1, sha256="b2", created=ours.model_created),
    ):
        assert not serving.is_published(served, other)
    with pytest.raises(SettingsError, match=f"{served} holds the versions 1, which the registered model other"):
        serving.require_usable(registry, "other", served)
    elsewhere = str(tmp_path / "elsewhere")
    serving.publish(saved_model, elsewhere, version(1, created=ours.model_created + 1))
    with pytest.raises(
        SettingsError, match="holds the versions 1, which the registered model encoder of this registry"
    ):
        serving.require_usable(registry, "encoder", elsewhere)
    # TFX's Pusher numbers its versions by time, and writes no owner file.
    by_time = tmp_path / "served" / "1795633583"
    by_time.mkdir()
    (by_time / "saved_model.pb").write_text("theirs")
    with pytest.raises(SettingsError, match="1795633583"):
        serving.require_usable(registry, "encoder", served)
    serving.withdraw_above(served, version(0, created=ours.model_created))
    assert sorted(path.name for path in (tmp_path / "served").iterdir()) == ["1795633583"]
    assert (by_time / "saved_model.pb").read_text() == "theirs"


def test_a_repaired_version_is_published_again(saved_model, tmp_path):
    serving.publish(saved_model, str(tmp_path / "served"), version(1))
    (saved_model / "saved_model.pb").write_text("again")
    serving.publish(saved_model, str(tmp_path / "served"), version(1, sha256="b2"))
    assert serving.is_published(str(tmp_path / "served"), version(1, sha256="b2"))
    assert files(tmp_path / "served" / "1")["saved_model.pb"] == "again"


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path, registry):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"serving_directory .*file/served cannot be written to"):
        serving.require_usable(registry, "encoder", str(tmp_path / "file" / "served"))
