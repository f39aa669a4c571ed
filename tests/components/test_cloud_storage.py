"""Cloud Storage that fails now and then: everything that lies there survives it, or says so and leaves nothing half."""

import asyncio
import json
import urllib.parse
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gcsfs.retry
import mlflow
import numpy as np
import pandas as pd
import pytest
from google.cloud.storage.retry import DEFAULT_RETRY

from components.image_example_gen.sources import files
from components.model_registry import ModelRegistry
from components.registry_pusher import serving
from components.registry_pusher.push import differences, push
from components.registry_pusher.serving import Published
from components.registry_pusher.verification import example_images
from tests import cloud_storage, faulty_storage
from tests.components import releases
from trainer import export
from trainer.checkpoints import Checkpoints
from trainer.errors import SettingsError, UserError

BUCKET = f"gs://{cloud_storage.BUCKET}"


@pytest.fixture(scope="module")
def server():
    with cloud_storage.running() as url:
        yield url


@pytest.fixture
def faulty(server, monkeypatch):
    # Both clients wait a second and more before they try again.
    monkeypatch.setattr(DEFAULT_RETRY, "_initial", 0.05)
    monkeypatch.setattr(gcsfs.retry, "asyncio", SimpleNamespace(sleep=lambda seconds: asyncio.sleep(seconds / 20)))
    with faulty_storage.in_front_of(server) as faults:
        yield faults


@pytest.fixture
def registry(tmp_path, monkeypatch) -> ModelRegistry:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return ModelRegistry(str(tmp_path / "registry"), f"{BUCKET}/{tmp_path.name}/models")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return releases.export_model(tmp_path_factory.mktemp("models") / "model", 1)


def objects(server: str, prefix: str) -> dict[str, int]:
    """Names and sizes of what is stored, asked for without faults."""
    with urllib.request.urlopen(f"{server}/storage/v1/b/images/o?prefix={urllib.parse.quote(prefix)}") as answer:
        return {item["name"]: int(item["size"]) for item in json.load(answer).get("items", [])}


def test_a_release_into_a_bucket_survives_faults(faulty, server, registry, model, tmp_path, monkeypatch):
    served = f"{BUCKET}/{tmp_path.name}/serving"
    pushed = push(registry, "encoder", "champion", releases.candidate(model, "run-1"), served)
    # Each kind of fault was met, and more than once.
    assert all(faulty.met[fault] > 1 for fault in ("503", "reset", "truncated", "slow")), faulty.met
    faulty.faulty = False
    assert pushed.version.aliases == ("champion",)
    assert differences(registry, pushed.version) == []
    files = f"{tmp_path.name}/models/encoder/{pushed.version.run_id}/artifacts/model/"
    stored = {name.removeprefix(files): size for name, size in objects(server, files).items()}
    folder = registry.download(pushed.version, str(tmp_path / "downloaded"))
    assert stored == {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    saved_model = {name: size for name, size in stored.items() if name.startswith("artifacts/saved_model/")}
    published = objects(server, f"{tmp_path.name}/serving/1/")
    del published[f"{tmp_path.name}/serving/1/nnclr-release.json"]
    assert sorted(published.values()) == sorted(saved_model.values())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/registry/mlflow.db")
    images = example_images((32, 32))
    embeddings = mlflow.pyfunc.load_model("models:/encoder@champion").predict(pd.DataFrame({"image_bytes": images}))
    np.testing.assert_allclose(embeddings, export.embed_encoded(model, images), rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_storage_that_stays_away_is_one_sentence_and_no_half_version(
    faulty, server, registry, model, tmp_path, monkeypatch
):
    # Instead of two minutes.
    monkeypatch.setattr(DEFAULT_RETRY, "_timeout", 3.0)
    faulty.faulty, faulty.down = False, True
    with pytest.raises(UserError, match=r"storage of the embedded model registry .* failed and kept failing.*503"):
        push(registry, "encoder", "champion", releases.candidate(model, "run-1"))
    assert registry.versions("encoder") == []
    faulty.down = False
    pushed = push(registry, "encoder", "champion", releases.candidate(model, "run-1"))
    assert differences(registry, pushed.version) == []
    assert [v.version for v in registry.versions("encoder")] == [1]
    # What the first attempt left is gone.
    names = objects(server, f"{tmp_path.name}/models/")
    assert {name.split("/")[3] for name in names} == {pushed.version.run_id}


def test_a_served_folder_has_its_saved_model_last_and_loses_it_first(faulty, server, model, tmp_path, monkeypatch):
    faulty.faulty = False
    directory = f"{BUCKET}/{tmp_path.name}/serving"
    states = []
    real = faulty_storage.FaultyStorage.fault

    def watched(self, method, path):
        if not self.down:
            states.append({name.partition("/serving/")[2] for name in objects(server, f"{tmp_path.name}/serving")})
        return real(self, method, path)

    monkeypatch.setattr(faulty_storage.FaultyStorage, "fault", watched)
    for version in (1, 2):
        serving.publish(Path(model), directory, Published("encoder", 7, version, "5a"))
    serving.withdraw_above(directory, Published("encoder", 7, 1, "5a"))
    whole = {path.relative_to(model).as_posix() for path in Path(model).rglob("*") if path.is_file()}
    whole.add("nnclr-release.json")
    final = {name.partition("/serving/")[2] for name in objects(server, f"{tmp_path.name}/serving")}
    assert final == {f"1/{name}" for name in whole}
    partial = 0
    for state in states:
        for version in ("1", "2"):
            files = {name.removeprefix(f"{version}/") for name in state if name.startswith(f"{version}/")}
            partial += bool(files) and files != whole
            assert "saved_model.pb" not in files or files == whole
    # It was looked at in between as well.
    assert partial > 2


def test_checkpoints_are_the_same_through_faults(faulty, tmp_path):
    arrays = {"weights": np.random.default_rng(0).normal(size=(300, 1000)).astype(np.float32)}
    checkpoints = Checkpoints(f"{BUCKET}/{tmp_path.name}", "mine", keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, arrays, {"history": [], "seconds": float(step)})
    found = checkpoints.latest({"weights": (300, 1000)})
    assert found.step == 3
    np.testing.assert_array_equal(found.arrays["weights"], arrays["weights"])
    assert sum(faulty.met.values()) > 3


@pytest.mark.long
def test_a_release_into_s3_is_whole_and_a_missing_bucket_is_one_sentence(s3, model, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    bucket = f"s3://{s3}/{tmp_path.name}"
    registry = ModelRegistry(str(tmp_path / "registry"), f"{bucket}/models")
    pushed = push(registry, "encoder", "champion", releases.candidate(model, "run-1"), f"{bucket}/serving")
    assert differences(registry, pushed.version) == []
    folder = f"{bucket}/serving/{pushed.version.version}"
    assert "saved_model.pb" in files.listing(folder).files
    serving.withdraw_above(f"{bucket}/serving", replace(Published.of(registry, pushed.version), version=0))
    assert files.listing(folder).files == {}
    elsewhere = ModelRegistry(str(tmp_path / "other"), "s3://nobody-has-this/models")
    with pytest.raises(UserError, match=r"storage of the embedded model registry .* failed and kept failing"):
        push(elsewhere, "encoder", "champion", releases.candidate(model, "run-1"))
    with pytest.raises(SettingsError, match=r"serving_directory s3://nobody-has-this/x cannot be written to: "):
        serving.require_usable(registry, "encoder", "s3://nobody-has-this/x")
