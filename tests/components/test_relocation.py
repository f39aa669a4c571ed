"""A registry whose folder was copied or moved."""

import shutil
from pathlib import Path

import pytest

from components.model_registry import ModelRegistry, Release, contents


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def register(registry: ModelRegistry, tmp_path: Path, identity: str):
    folder = tmp_path / f"release-{identity}"
    folder.mkdir()
    (folder / "weights").write_text(identity)
    contents.write_manifest(folder)
    return registry.register("encoder", Release(identity, folder, 0.5, "beef"))


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("weights")}


@pytest.mark.parametrize("odd", ["plain", "with space", "Ärger & Söhne's; +1"])
def test_a_copy_reads_writes_and_deletes_only_its_own_files(tmp_path, odd):
    a, b = tmp_path / odd / "a", tmp_path / odd / "b"
    first = register(ModelRegistry(str(a)), tmp_path, "1")
    shutil.copytree(a, b)
    before = files(a)
    shutil.rmtree(a / "artifacts")
    copy = ModelRegistry(str(b))
    assert copy.download_even_if_damaged(first, str(tmp_path / "d")).damage == []
    assert not (a / "artifacts").exists()
    shutil.copytree(b / "artifacts", a / "artifacts")
    second = register(copy, tmp_path, "2")
    assert (second.version, files(a)) == (2, before)
    copy.delete(first)
    assert files(a) == before
    assert len(files(b)) == 1


def test_a_registry_that_was_moved_several_times_is_intact(tmp_path):
    version = register(ModelRegistry(str(tmp_path / "a")), tmp_path, "1")
    for former, now in (("a", "deep/er/b"), ("deep/er/b", "c"), ("c", "a")):
        (tmp_path / now).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / former).rename(tmp_path / now)
        registry = ModelRegistry(str(tmp_path / now))
        assert registry.download_even_if_damaged(version, str(tmp_path / f"d-{former.replace('/', '-')}")).damage == []
    # A folder whose name begins with the registry's name is another folder.
    shutil.copytree(tmp_path / "a", tmp_path / "ab")
    ModelRegistry(str(tmp_path / "ab")).delete(version)
    assert files(tmp_path / "a") != set()


def test_a_copy_does_not_delete_files_that_it_shares_with_the_original(tmp_path):
    outside = tmp_path / "outside"
    version = register(ModelRegistry(str(tmp_path / "a"), str(outside)), tmp_path, "1")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    ModelRegistry(str(tmp_path / "b"), str(outside)).delete(version)
    original = ModelRegistry(str(tmp_path / "a"), str(outside))
    assert original.download_even_if_damaged(version, str(tmp_path / "d")).damage == []
    # The original may delete them.
    original.delete(version)
    assert files(outside) == set()


@pytest.mark.long
def test_processes_that_create_a_registry_at_once_all_succeed(tmp_path):
    import subprocess
    import sys

    code = f"from components.model_registry import ModelRegistry; print(ModelRegistry({str(tmp_path / 'r')!r}).names())"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ended = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    assert [(out.strip(), code) for out, _, code in ended] == [("[]", 0)] * 3, ended


def test_a_copy_of_a_registry_that_did_not_record_its_folder_is_recognised(tmp_path):
    """nnclr 0.1.0 created such registries: only MLflow's own tables show their folder."""
    import sqlite3
    from contextlib import closing

    version = register(ModelRegistry(str(tmp_path / "a" / "registry")), tmp_path, "1")
    with closing(sqlite3.connect(tmp_path / "a" / "registry" / "mlflow.db")) as database:
        database.execute("DROP TABLE nnclr_location")
        database.commit()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    copy = ModelRegistry(str(tmp_path / "b" / "registry"))
    copy.delete(version)
    assert len(files(tmp_path / "a")) == 1
    assert files(tmp_path / "b") == set()


def test_a_copy_forgets_the_folder_that_the_original_serves_from(tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    registry = ModelRegistry(str(tmp_path / "a"))
    register(registry, tmp_path, "1")
    registry.set_tag("encoder", "serving_directory", str(served))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert ModelRegistry(str(tmp_path / "b")).tag("encoder", "serving_directory") is None
    assert ModelRegistry(str(tmp_path / "a")).tag("encoder", "serving_directory") == str(served)
    # A moved registry keeps a serving directory that still exists.
    (tmp_path / "a").rename(tmp_path / "c")
    assert ModelRegistry(str(tmp_path / "c")).tag("encoder", "serving_directory") == str(served)


def test_a_storage_failure_is_not_reported_as_lost_files(tmp_path, monkeypatch):
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    from trainer.errors import UserError

    registry = ModelRegistry(str(tmp_path / "a"))
    version = register(registry, tmp_path, "1")

    def fail(self, *arguments, **options):
        raise TimeoutError("the storage does not answer")

    for name in ("list_artifacts", "download_artifacts"):
        with monkeypatch.context() as patch:
            patch.setattr(LocalArtifactRepository, name, fail)
            with pytest.raises((TimeoutError, UserError), match="does not answer"):
                registry.download_even_if_damaged(version, str(tmp_path / name))
    assert registry.download_even_if_damaged(version, str(tmp_path / "d")).damage == []
    shutil.rmtree(tmp_path / "a" / "artifacts")
    assert "its files are gone" in registry.download_even_if_damaged(version, str(tmp_path / "e")).damage[0]
