"""Releases into real MLflow registries: embedded, and a server on loopback."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from tfx.types import standard_artifacts

from components.champion_resolver import executor as resolver
from components.model_registry import ModelRegistry, Release, content_hash, manifest
from components.registry_pusher import executor as pusher
from trainer import export
from trainer.config import TrainerSettings
from trainer.encoders import build_encoder
from trainer.errors import UserError

SETTINGS = TrainerSettings.model_validate({"encoder": {"width": 8}})
METRICS = {
    "probe_accuracy": 0.5,
    "knn_accuracy": 0.4,
    "baseline_accuracy": None,
    "reasons": [],
    "class_accuracy": {"cat": 0.25, "chat d'été (été)": 0.75},
}


@pytest.fixture
def registry(tmp_path, monkeypatch) -> ModelRegistry:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return ModelRegistry(str(tmp_path / "registry"))


def export_model(directory: Path, seed: int) -> str:
    keras.utils.set_random_seed(seed)
    export.export_encoder(build_encoder(SETTINGS.encoder, (32, 32)), SETTINGS, (32, 32), str(directory), {"steps": 3})
    return str(directory)


def artifact(kind, directory: Path):
    directory.mkdir(parents=True, exist_ok=True)
    instance = kind()
    instance.uri = str(directory)
    return instance


def push(tmp_path: Path, seed: int, run_id: str, blessed: bool = True) -> dict:
    """Runs the component's executor on real artifacts, as TFX does."""
    root = tmp_path / run_id
    inputs = {
        "model": [artifact(standard_artifacts.Model, tmp_path / f"model-{seed}")],
        "evaluation": [artifact(standard_artifacts.ModelEvaluation, root / "evaluation")],
        "blessing": [artifact(standard_artifacts.ModelBlessing, root / "blessing")],
    }
    if not (tmp_path / f"model-{seed}" / "Format-Serving").exists():
        export_model(tmp_path / f"model-{seed}" / "Format-Serving", seed)
    (root / "evaluation" / "metrics.json").write_text(json.dumps(METRICS))
    (root / "blessing" / ("BLESSED" if blessed else "NOT_BLESSED")).write_text("")
    outputs = {"pushed_model": [artifact(standard_artifacts.PushedModel, root / "pushed")]}
    properties = {
        "model_name": "encoder",
        "alias": "champion",
        "registry_directory": str(tmp_path / "registry"),
        "fingerprint": "f00d",
        "run_id": run_id,
    }
    pusher.Executor().Do(inputs, outputs, properties)
    return json.loads((root / "pushed" / "push.json").read_text())


def test_push_registers_once_records_what_was_measured_and_moves_the_alias(tmp_path, registry):
    first = push(tmp_path, seed=1, run_id="run-1")
    assert first == {
        "pushed": True,
        "changed": True,
        "name": "encoder",
        "version": 1,
        "uri": "models:/encoder/1",
        "alias": "champion",
    }
    (version,) = registry.versions("encoder")
    assert version.aliases == ("champion",)
    assert version.probe_accuracy == 0.5
    assert version.sha256 == content_hash(manifest(str(tmp_path / "model-1" / "Format-Serving")))

    client = registry._client
    stored = client.get_model_version("encoder", "1")
    run = client.get_run(stored.run_id)
    assert run.info.status == "FINISHED"
    assert stored.tags["data_fingerprint"] == run.data.tags["data_fingerprint"] == "f00d"
    assert run.data.metrics["probe_accuracy"] == 0.5
    assert run.data.metrics["class_accuracy/cat"] == 0.25
    assert run.data.metrics["class_accuracy/chat d_été _été_"] == 0.75
    assert run.data.params["encoder.width"] == "8"
    assert {file.path for file in client.list_artifacts(stored.run_id)} == {"model", "manifest.json", "metrics.json"}


def test_pushing_the_same_content_again_changes_nothing(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1")
    before = registry._client.search_runs([registry._experiment("encoder")])
    again = push(tmp_path, seed=1, run_id="run-2")
    assert (again["pushed"], again["changed"], again["version"]) == (True, False, 1)
    assert len(registry.versions("encoder")) == 1
    assert len(registry._client.search_runs([registry._experiment("encoder")])) == len(before)


def test_new_content_takes_over_the_alias_and_old_content_takes_it_back_without_a_copy(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1")
    push(tmp_path, seed=2, run_id="run-2")
    assert [(v.version, v.aliases) for v in registry.versions("encoder")] == [(2, ("champion",)), (1, ())]
    back = push(tmp_path, seed=1, run_id="run-3")
    assert (back["version"], back["changed"]) == (1, True)
    assert [(v.version, v.aliases) for v in registry.versions("encoder")] == [(2, ()), (1, ("champion",))]


def test_not_blessed_pushes_nothing(tmp_path, registry):
    assert push(tmp_path, seed=1, run_id="run-1", blessed=False) == {"pushed": False, "changed": False}
    assert registry.names() == []


def test_version_that_does_not_load_back_never_becomes_champion(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1")
    other = export_model(tmp_path / "other", seed=9)

    def refuse(directory: str) -> None:
        raise RuntimeError("differs")

    with pytest.raises(RuntimeError, match="differs"):
        registry.push("encoder", "champion", other, Release(probe_accuracy=0.9), refuse)
    assert registry.aliased("encoder", "champion").version == 1


def test_embeddings_are_compared_and_a_difference_is_named(tmp_path):
    one, two = export_model(tmp_path / "one", 1), export_model(tmp_path / "two", 2)
    pusher.require_same_embeddings(one, one)
    with pytest.raises(RuntimeError, match="embeddings differ"):
        pusher.require_same_embeddings(one, two)


def resolve(tmp_path: Path, name: str, expected: str | None = None) -> str:
    output = artifact(standard_artifacts.Model, tmp_path / name)
    properties = {
        "model_name": "encoder",
        "alias": "champion",
        "registry_directory": str(tmp_path / "registry"),
        "expected": expected,
    }
    resolver.Executor().Do({}, {"model": [output]}, properties)
    return output.uri


def test_resolver_brings_the_champion_or_says_that_there_is_none(tmp_path, registry):
    assert resolver.resolved(resolve(tmp_path, "before", expected="none")) is None
    push(tmp_path, seed=1, run_id="run-1")
    champion = resolve(tmp_path, "after", expected=resolver.identity(registry.aliased("encoder", "champion")))
    assert resolver.resolved(champion) == ("encoder", 1)
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(
        export.Embeddings.of_export(f"{champion}/Format-Serving")(noise),
        export.Embeddings.of_export(str(tmp_path / "model-1" / "Format-Serving"))(noise),
    )


def test_resolver_refuses_another_champion_than_the_run_was_started_for(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1")
    with pytest.raises(UserError, match="champion changed from none to encoder:1:"):
        resolve(tmp_path, "late", expected="none")


def test_a_real_server_holds_the_whole_release(tmp_path, mlflow_server):
    assert push(tmp_path, seed=1, run_id="run-1")["uri"] == "models:/encoder/1"
    assert push(tmp_path, seed=1, run_id="run-2")["changed"] is False
    assert push(tmp_path, seed=2, run_id="run-3")["version"] == 2
    server = ModelRegistry("unused")
    assert [(v.version, v.aliases) for v in server.versions("encoder")] == [(2, ("champion",)), (1, ())]
    assert resolver.resolved(resolve(tmp_path, "champion")) == ("encoder", 2)
    # Nothing of it lies in the embedded registry.
    assert not (tmp_path / "registry").exists()
    assert not Path("unused").exists()


def test_server_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match="MLflow server of MLFLOW_TRACKING_URI refused"):
        ModelRegistry(str(tmp_path)).names()
