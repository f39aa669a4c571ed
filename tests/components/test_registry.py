"""Releases into real MLflow registries, through the components: embedded, and a server on loopback."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pillow_heif
import pytest
import tensorflow as tf
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from PIL import Image
from tfx.types import standard_artifacts

from components.champion_resolver import artifact as champion_artifact
from components.champion_resolver import executor as resolver
from components.champion_resolver.artifact import Champion, Resolved
from components.data_gate import artifact as data_gate_artifact
from components.linear_probe_evaluator import artifact as evaluation_artifact
from components.linear_probe_evaluator.artifact import Duplicates, ProbeWeights
from components.model_registry import DamagedVersion, ModelRegistry, Move, Release, Version, contents, history
from components.model_registry.config import ChampionSettings, RegistrySettings
from components.model_registry.pipeline_runs import PipelineRuns
from components.model_registry.stored_files import StoredFiles
from components.registry_pusher import executor as pusher
from components.registry_pusher import release, verification
from components.registry_pusher.push import differences
from components.run_settings import RunSettings
from tests import interpreters
from tests.components import releases
from trainer import export
from trainer.errors import SettingsError, UserError

CARD = {"licence": "CC-BY-4.0", "contact": "ada@example.org", "intended_use": "Sorting digits.\n\nNot for cheques."}
PAGE = f"<title>report</title>{evaluation_artifact.NOT_RELEASED}"


@pytest.fixture
def registry(empty_registry, tmp_path, monkeypatch) -> ModelRegistry:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(empty_registry, tmp_path / "registry")
    return ModelRegistry(str(tmp_path / "registry"))


def test_a_registry_whose_creation_was_killed_is_created_again(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "registry"
    code = f"from components.model_registry import ModelRegistry; ModelRegistry({str(folder)!r})"
    process = interpreters.commands().start("-c", code, cwd=tmp_path)
    # Some of the tables exist then.
    while not any(path.stat().st_size for path in folder.glob(".mlflow.db.*.partial")):
        assert process.poll() is None, process.communicate()
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "mlflow.db").exists()
    assert ModelRegistry(str(folder)).names() == []
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "mlflow.db"]


def artifact(kind, directory: Path):
    directory.mkdir(parents=True, exist_ok=True)
    instance = kind()
    instance.uri = str(directory)
    return instance


def push(
    tmp_path: Path,
    seed: int,
    run_id: str,
    blessed: bool = True,
    accuracy: float = 0.5,
    champion: int | None = None,
    consistency: float | None = None,
    formats: tuple[str, ...] = (),
    **settings: object,
) -> dict:
    """Runs the component's executor on real artifacts, as TFX does; with a `consistency`, without labels.

    The `settings` are further ones of the section `registry`.
    """
    root = tmp_path / run_id
    model = tmp_path / f"model-{seed}" / "Format-Serving"
    if not model.exists():
        model.parent.mkdir(parents=True, exist_ok=True)
        releases.export_model(model, seed)
    inputs = {
        "model": [artifact(standard_artifacts.Model, model.parent)],
        "evaluation": [artifact(standard_artifacts.ModelEvaluation, root / "evaluation")],
        "blessing": [artifact(standard_artifacts.ModelBlessing, root / "blessing")],
        "data_checks": [artifact(standard_artifacts.ExampleAnomalies, root / "data_checks")],
    }
    candidate = releases.candidate(str(model), run_id, accuracy, champion)
    data_gate_artifact.write(str(root / "data_checks"), (), candidate.data_statistics)
    metrics = candidate.metrics
    probe = ProbeWeights(candidate.classifier.weights, candidate.classifier.bias)
    if consistency is not None:
        metrics, probe = releases.label_free_metrics(consistency, champion), None
    evaluation_artifact.write_evaluation(str(root / "evaluation"), metrics, PAGE, probe)
    (root / "blessing" / ("BLESSED" if blessed else "NOT_BLESSED")).write_text("")
    outputs = {"pushed_model": [artifact(standard_artifacts.PushedModel, root / "pushed")]}
    registry = RegistrySettings.model_validate({"model_name": "encoder", "formats": formats} | settings)
    run_settings = candidate.settings.model_copy(update={"registry": registry})
    properties = {
        "settings": run_settings.model_dump_json(),
        "settings_fingerprint": "r3c1",
        "registry_directory": str(tmp_path / "registry"),
        "pipeline_run": run_id,
        "code": candidate.code.model_dump_json(),
    }
    pusher.Executor().Do(inputs, outputs, properties)
    return json.loads((root / "pushed" / "push.json").read_text())


def test_a_version_holds_figures_settings_provenance_and_model_card(tmp_path, registry):
    first = push(tmp_path, seed=1, run_id="run-1", card=CARD)
    assert first == {
        **{"pushed": True, "changed": True, "name": "encoder", "version": 1, "uri": "models:/encoder/1"},
        **{"alias": "champion", "not_promoted": None, "promotion": None, "page": None, "served": None},
        "outcome": "released",
    }
    (run,) = PipelineRuns(registry, "encoder").newest()
    assert (run.run, run.outcome, run.version, run.settings_fingerprint, run.probe_accuracy) == (
        "run-1",
        "released",
        1,
        "r3c1",
        0.5,
    )
    assert "Released as encoder version 1" in (tmp_path / "run-1" / "pushed" / "report.html").read_text()
    (version,) = registry.versions("encoder")
    assert version.aliases == ("champion",)
    assert (version.probe_accuracy, version.test_data) == (0.5, "beef")

    details = registry.details(version)
    for name, value in {"git_commit": "c0ffee", "lock_sha256": "10c4", "data_fingerprint": "f00d"}.items():
        assert details.tags[name] == value
    assert details.metrics["probe_accuracy"] == 0.5
    assert details.metrics["knn_accuracy/200"] == 0.38
    assert details.metrics["class_accuracy/cat"] == 0.25
    assert details.metrics[f"class_accuracy/{release._metric_name(releases.CLASSES[1])}"] == 0.75
    assert details.metrics["training/steps"] == 3
    assert details.parameters["trainer.encoder.width"] == "8"
    assert "**Linear probe 50.0%** (95 % interval 48.0% to 52.0%)" in details.description
    # What a person must know before a promotion is also on MLflow's page.
    assert "**Note:** 3 of the 40 images of test occur in train as well." in details.description
    assert f"**Intended use:** {CARD['intended_use']}" in details.description
    assert {key: details.tags[key] for key in ("licence", "contact")} == {
        key: CARD[key] for key in ("licence", "contact")
    }

    folder = registry.download(version, str(tmp_path / "downloaded"))
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names >= {
        *("MLmodel", "model_card.md", "metrics.json", "settings.yaml", "provenance.json", "report.html"),
        *("manifest.json", "verification.json", "input_example.json", "artifacts/saved_model/saved_model.pb"),
        "data_statistics.pb",
    }
    assert set(json.loads((folder / "manifest.json").read_text())) == names - {"manifest.json"}
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["parents"] == {"warm_start": None, "compared_with": None}
    card = (folder / "model_card.md").read_text()
    for fact in ("| linear probe | 50.0% (48.0% to 52.0%) |", "100 unlabelled images", "3 steps in 2 s", "c0ffee"):
        assert fact in card
    assert "- 3 of the 40 images of test occur in train as well." in card
    assert f"- Licence: {CARD['licence']}\n- Contact: {CARD['contact']}\n\n{CARD['intended_use']}\n" in card
    assert str(Path.home()) not in card


def test_a_version_has_four_signatures_and_its_classifier_is_the_probe(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1")
    folder = registry.download(registry.version("encoder", 1), str(tmp_path / "downloaded"))
    model = tf.saved_model.load(str(folder / "artifacts" / "saved_model"))
    assert set(model.signatures) == {"serving_default", "embed_pixels", "classify", "classify_embeddings"}
    images = verification.example_images((32, 32))
    embeddings = export.embed_encoded(str(tmp_path / "model-1" / "Format-Serving"), images)
    np.testing.assert_allclose(
        model.signatures["serving_default"](image_bytes=tf.constant(images))["embeddings"], embeddings, atol=1e-6
    )
    classified = model.signatures["classify"](image_bytes=tf.constant(images))
    probe = releases.classifier(0)
    logits = embeddings @ probe.weights + probe.bias
    np.testing.assert_allclose(
        classified["probabilities"], np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), rtol=1e-4, atol=1e-6
    )
    labels = [label.decode() for label in classified["labels"].numpy()]
    assert labels == [releases.CLASSES[i] for i in logits.argmax(-1)]
    of_embeddings = model.signatures["classify_embeddings"](embeddings=tf.constant(embeddings))
    np.testing.assert_allclose(of_embeddings["probabilities"], classified["probabilities"], atol=1e-6)


def test_a_release_without_labels_has_no_classifier_and_says_what_was_measured(tmp_path, registry):
    assert push(tmp_path, seed=1, run_id="run-1", consistency=0.5)["alias"] == "champion"
    version = registry.version("encoder", 1)
    assert (version.probe_accuracy, version.neighbour_consistency, version.test_data) == (None, 0.5, "f00d")
    (move,) = registry.history("encoder")
    assert move.reason == "Neighbour consistency 50.0%, without labels, blessed by run run-1."
    details = registry.details(version)
    assert details.description.startswith(
        "**Neighbour consistency 50.0%, without labels** (95 % interval 48.0% to 52.0%)"
    )
    assert details.metrics["label_free/this_encoder/lidar"] == 4.5
    assert details.metrics["label_free/untrained_encoder/neighbour_consistency"] == 0.1
    assert not {"probe_accuracy", "knn_accuracy", "label_free/champion/lidar"} & details.metrics.keys()
    folder = registry.download(version, str(tmp_path / "downloaded"))
    model = tf.saved_model.load(str(folder / "artifacts" / "saved_model"))
    assert set(model.signatures) == {"serving_default", "embed_pixels"}
    assert differences(registry, version) == []
    card = (folder / "model_card.md").read_text()
    for fact in (
        "how well the embeddings separate classes is unknown",
        "| measure | this encoder | untrained encoder |\n|---|---|---|\n| neighbour consistency | 50.0% (48",
        "Checks before the release:\n\n- There are no labelled images.",
        "- Licence: not stated",
        "- This favours the new encoder.",
    ):
        assert fact in card
    assert "classif" not in card
    # Small losses add up neither among releases without labels nor after one with labels.
    for number, (accuracy, share, best) in enumerate([(None, 0.49, 1), (0.3, None, None), (None, 0.6, 3)], start=2):
        folder = tmp_path / f"release-{number}"
        folder.mkdir()
        contents.write_manifest(folder)
        registry.register("encoder", Release(str(number), folder, accuracy, neighbour_consistency=share))
        registry.move_alias("encoder", Move("champion", None, number, "push", f"run-{number}", ""))
        found = registry.best_release("encoder", "champion")
        assert (found.version if found else None) == best


@pytest.mark.long
def test_mlflow_alone_gives_embeddings_for_image_bytes(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1")
    images = verification.example_images((32, 32))
    expected = export.embed_encoded(str(tmp_path / "model-1" / "Format-Serving"), images)
    np.save(tmp_path / "expected.npy", expected)
    (tmp_path / "image.png").write_bytes(images[0])
    pillow_heif.register_heif_opener()
    with Image.open(tmp_path / "image.png") as image:
        for name in ("image.tif", "image.heic"):
            image.save(tmp_path / name, **({"quality": -1} if name.endswith("heic") else {}))
    # The process does not import nnclr.
    code = """
import sys
import mlflow, numpy as np, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/encoder@champion")
embeddings = model.predict(pd.DataFrame({"image_bytes": [open("image.png", "rb").read()] * 70}))
assert embeddings.shape == (70, 8) and embeddings.dtype == np.float32
np.testing.assert_allclose(embeddings[69], np.load("expected.npy")[0], rtol=1e-5, atol=1e-6)
# Formats that TensorFlow does not decode.
others = [open(name, "rb").read() for name in ("image.tif", "image.heic")]
tif, heic = model.predict(pd.DataFrame({"image_bytes": others}))
np.testing.assert_allclose(tif, np.load("expected.npy")[0], rtol=1e-5, atol=1e-6)
np.testing.assert_allclose(heic, tif, atol=0.1)
nothing = model.predict(pd.DataFrame({"image_bytes": []}, dtype=object))
assert nothing.shape == (0, 8) and nothing.dtype == np.float32
example = model.input_example
np.testing.assert_allclose(model.predict(example)[0], np.load("expected.npy")[0], rtol=1e-5, atol=1e-6)
assert not {"trainer", "components", "pipeline"} & set(sys.modules)
assert [column.name for column in model.metadata.get_input_schema()] == ["image_bytes"]
"""
    uri = f"sqlite:///{tmp_path}/registry/mlflow.db"
    command = [sys.executable, "-P", "-c", code, uri]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr


def test_no_sentence_of_the_card_contradicts_what_was_found(tmp_path):
    """The findings and settings of each of these candidates once stood beside a sentence that denied them."""
    plain = releases.candidate(releases.export_model(tmp_path / "model", seed=1), "run-1", champion=1)

    def card(trainer: Mapping[str, object] = MappingProxyType({}), **metrics: object) -> str:
        settings = plain.settings.model_dump(mode="json")
        settings["trainer"] |= trainer
        found = plain.metrics.model_copy(update=metrics)
        candidate = replace(plain, settings=RunSettings.model_validate(settings), metrics=found)
        return release.card(candidate, "encoder", "champion", {})

    text = card()
    assert "from random weights" in text
    assert "No labels were used" in text
    assert "| compared with the champion | encoder version 1 |" in text
    assert "3 are identical to images of `train`, and 0 others look like one" in text
    # The test images are among those of the pretraining.
    copied = card(duplicates={"test in unlabelled": Duplicates(images=40, exact=7, look=2)})
    assert "7 are identical to images of `unlabelled`, and 2 others look like one" in copied
    assert "never learned from" not in copied
    # The encoder has collapsed: all images lie close together.
    assert "lie close together" not in text
    # The champion could not be measured.
    assert "| compared with the champion | no |" in card(champion_accuracy=None)
    for trainer, start in (
        ({"encoder": {"name": "keras:MobileNetV3Small", "weights": "imagenet"}}, "imagenet"),
        ({"encoder": {"name": "./own.keras"}}, "./own.keras"),
        ({"warm_start": "gs://bucket/encoder"}, "gs://bucket/encoder"),
        ({"warm_start": "champion"}, "encoder version 1"),
        ({"from_checkpoint": "/runs/1"}, "/runs/1"),
    ):
        started = card(trainer)
        assert f"Training started from the weights of `{start}`." in started
        assert f"| started from | {start} |" in started
        assert "from weights of another training" in started
        assert "No labels were used" not in started
        assert "Whether that of the weights it started from did" in started
    assert "| duration | 2h |" in card({"time_limit": "2h"})
    assert "support set" not in card({"neighbour": "none"})


def test_the_name_of_a_class_is_no_code_in_the_card(tmp_path):
    plain = releases.candidate(releases.export_model(tmp_path / "model", seed=1), "run-1")
    name = "<script>x](javascript:y)|z"
    figures = {"class_accuracy": {name: 0.5}, "class_counts": {name: 20}, "findings": [f"All of {name} are equal."]}
    text = release.card(replace(plain, metrics=plain.metrics.model_copy(update=figures)), "encoder", "champion", {})
    shown = "&lt;script>x]\\(javascript:y)\\|z"
    assert f"| {shown} | 20 | 50.0% |" in text
    assert f"- All of {shown} are equal." in text


def test_the_same_encoder_under_another_licence_is_another_release(tmp_path):
    model = releases.export_model(tmp_path / "model", seed=1)
    plain, licensed = (releases.candidate(model, "run-1", card=card) for card in ({}, {"licence": "MIT"}))
    assert plain.identity != licensed.identity


def test_an_encoder_that_waits_for_approval_is_not_called_released(tmp_path, registry, monkeypatch):
    releases.use_stubs(tmp_path / "stubs", monkeypatch.setattr)
    first = push(tmp_path, seed=1, run_id="run-1", approval="manual")
    assert (first["outcome"], first["alias"], first["changed"]) == ("challenger", "challenger", True)
    assert first["promotion"] == "nnclr models promote 1 --name encoder --reason REASON"
    report = (tmp_path / "run-1" / "pushed" / "report.html").read_text()
    assert "Registered as encoder version 1" in report
    assert first["not_promoted"] in report
    assert "Released" not in report
    (run,) = PipelineRuns(registry, "encoder").newest()
    assert (run.outcome, run.version, run.detail) == ("challenger", 1, first["not_promoted"])
    # The next run still finds no champion.
    assert champion_artifact.read(resolve(tmp_path, "resolved", expected="none")) == Resolved()
    # Under another alias for the champion, the command says so.
    other = push(tmp_path, seed=1, run_id="run-2", approval="manual", alias="stable")
    assert other["promotion"] == "nnclr models promote 1 --name encoder --alias stable --reason REASON"


def test_pushing_the_same_content_again_changes_nothing(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1")
    again = push(tmp_path, seed=1, run_id="run-2")
    assert (again["pushed"], again["changed"], again["version"]) == (True, False, 1)
    assert len(registry.versions("encoder")) == 1
    assert len(registry.connection.client.search_runs([registry.connection.experiment_id("encoder")])) == 1
    assert len(registry.history("encoder")) == 1


@pytest.mark.long
def test_new_content_takes_over_the_alias_and_old_content_takes_it_back_without_a_copy(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1")
    push(tmp_path, seed=2, run_id="run-2", champion=1)
    assert [(v.version, v.aliases) for v in registry.versions("encoder")] == [(2, ("champion",)), (1, ())]
    back = push(tmp_path, seed=1, run_id="run-3", champion=2)
    assert (back["version"], back["changed"]) == (1, True)
    assert [(v.version, v.aliases) for v in registry.versions("encoder")] == [(2, ()), (1, ("champion",))]
    moves = [(m.previous, m.version, m.kind, m.by, m.completed) for m in registry.history("encoder")]
    assert moves == [
        (None, 1, "push", "run-1", True),
        (1, 2, "push", "run-2", True),
        (2, 1, "push", "run-3", True),
    ]


def test_two_processes_that_set_a_new_alias_at_once_both_succeed(tmp_path, registry, monkeypatch):
    real = MlflowClient.set_registered_model_alias

    def slower(self, name, alias, version):
        """Fails like a server on which another process adds the alias after this one looked for it."""
        monkeypatch.setattr(MlflowClient, "set_registered_model_alias", real)
        real(self, name, alias, version)
        raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed", error_code=BAD_REQUEST)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", slower)
    first = push(tmp_path, seed=1, run_id="run-1")
    assert (first["version"], first["alias"]) == (1, "champion")
    # Any other refusal is raised.
    with pytest.raises(UserError, match=r"Model Version .* not found"):
        registry.move_alias("encoder", Move("stable", None, 9, "promote", "ada@box", "hope"))


def test_classes_with_names_that_mlflow_refuses_have_distinct_metrics(tmp_path):
    long = "x" * 240
    recall = {"c++": 0.1, "c##": 0.2, long: 0.3, f"{long}y": 0.4, "cat": 0.5}
    metrics = releases.metrics(0.5).model_copy(update={"class_accuracy": recall})
    numbers = dict(release._numbers(metrics, None))
    accuracies = {name: value for name, value in numbers.items() if name.startswith("class_accuracy/")}
    assert sorted(accuracies.values()) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert accuracies["class_accuracy/cat"] == 0.5
    # MLflow applies these rules.
    from mlflow.utils.validation import _validate_metric_name

    for name in accuracies:
        _validate_metric_name(name)


def test_not_blessed_pushes_nothing(tmp_path, registry):
    nothing = push(tmp_path, seed=1, run_id="run-1", blessed=False)
    assert (nothing["pushed"], nothing["changed"], nothing["outcome"]) == (False, False, "not blessed")
    assert {nothing[name] for name in ("name", "version", "uri", "alias", "served")} == {None}
    assert registry.names() == []
    assert [run.outcome for run in PipelineRuns(registry, "encoder").newest()] == ["not blessed"]
    assert PipelineRuns.model_names(registry) == ["encoder"]
    assert (tmp_path / "run-1" / "pushed" / "report.html").read_text() == PAGE


def test_a_version_that_does_not_load_back_never_becomes_champion(tmp_path, registry, monkeypatch):
    push(tmp_path, seed=1, run_id="run-1")
    download = StoredFiles.download

    def damaging(self, directory):
        folder = download(self, directory)
        (folder / "artifacts" / "saved_model" / "saved_model.pb").write_bytes(b"")
        return folder

    monkeypatch.setattr(StoredFiles, "download", damaging)
    with pytest.raises(DamagedVersion, match=r"models:/encoder/2: artifacts/saved_model/saved_model.pb has another"):
        push(tmp_path, seed=2, run_id="run-2", champion=1)
    assert registry.aliased("encoder", "champion").version == 1


def stored(registry: ModelRegistry, version: int) -> Path:
    artifacts = registry.details(registry.version("encoder", version)).artifacts
    return Path(artifacts.removeprefix("file://")) / "model"


def test_differences_name_the_file(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1")
    version = registry.version("encoder", 1)
    assert differences(registry, version) == []
    weights = stored(registry, 1) / "artifacts" / "saved_model" / "variables" / "variables.data-00000-of-00001"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    name = "artifacts/saved_model/variables/variables.data-00000-of-00001"
    assert differences(registry, version) == [f"{name} has another sha256"]
    weights.unlink()
    (stored(registry, 1) / "extra.txt").write_text("?")
    assert differences(registry, version) == [f"{name} is missing", "extra.txt was added"]
    weights.write_bytes(whole)
    (stored(registry, 1) / "extra.txt").unlink()
    manifest = stored(registry, 1) / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    assert differences(registry, version) == ["manifest.json has another sha256 than was registered"]


@pytest.mark.long
def test_a_version_holds_further_formats_and_says_how_much_they_differ(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1", formats=("onnx", "keras"))
    version = registry.version("encoder", 1)
    folder = registry.download(version, str(tmp_path / "downloaded"))
    assert {"encoder.onnx", "encoder.keras"} < json.loads((folder / "manifest.json").read_text()).keys()
    metrics, card = registry.details(version).metrics, (folder / "model_card.md").read_text()
    for name in ("onnx", "keras"):
        assert 0 <= metrics[f"format_difference/{name}"] < 1e-5
        assert f"| `encoder.{name}` | {metrics[f'format_difference/{name}']:.1e} |" in card
    assert differences(registry, version) == []


def test_an_aliased_version_is_not_deleted_and_another_goes_with_its_files(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1")
    push(tmp_path, seed=2, run_id="run-2", champion=1)
    files = stored(registry, 1)
    with pytest.raises(SettingsError, match="models:/encoder/2 is champion: move the alias first"):
        registry.delete(registry.version("encoder", 2))
    assert any(files.rglob("*.pb"))
    registry.delete(registry.version("encoder", 1))
    assert [v.version for v in registry.versions("encoder")] == [2]
    assert not any(files.rglob("*"))
    with pytest.raises(SettingsError, match="encoder has no version 1; there are: 2"):
        registry.version("encoder", 1)


def test_rollback_goes_to_the_previous_champion_and_then_further_back():
    def move(previous: int | None, version: int, kind: str, number: int) -> Move:
        return Move("champion", previous, version, kind, "someone", "", key=f"alias_move.{number}")

    def target(current: int, existing: tuple[int, ...] = (1, 2, 3), alias: str = "champion") -> int | None:
        return history.rollback_target(moves, alias, current, existing)

    moves = [move(None, 1, "push", 1), move(1, 2, "push", 2), move(2, 3, "promote", 3)]
    assert target(3) == 2
    assert target(3, existing=(1, 3)) == 1
    moves.append(move(3, 2, "rollback", 4))
    assert target(2) == 1
    moves.append(move(2, 1, "rollback", 5))
    assert target(1) is None
    assert target(3, alias="staging") is None


def test_rollbacks_after_a_promotion_of_the_first_version_come_to_an_end():
    """After push 1, push 2 and promote 1, rollbacks go to 2 and then to 1."""
    kinds = [(None, 1, "push"), (1, 2, "push"), (2, 1, "promote")]
    moves = [Move("champion", *kind[:2], kind[2], "someone", "", key=f"alias_move.{i}") for i, kind in enumerate(kinds)]
    current, visited = 1, []
    while (target := history.rollback_target(moves, "champion", current, (1, 2))) is not None:
        visited.append(target)
        moves.append(Move("champion", current, target, "rollback", "someone", "", key=f"alias_move.{len(moves)}"))
        current = target
        assert len(visited) < 10
    assert visited == [2, 1]


@pytest.mark.long
def test_rollback_ignores_a_move_that_was_never_completed(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1")
    push(tmp_path, seed=2, run_id="run-2", champion=1)
    begun = Move("champion", 2, 1, "promote", "ada@box", "killed before the alias moved").stamped()
    registry.set_tag("encoder", *begun.as_tag())
    push(tmp_path, seed=3, run_id="run-3", champion=2)
    assert [move.completed for move in registry.history("encoder")] == [True, True, False, True]
    assert registry.rollback_target("encoder", "champion").version == 2


def test_prune_keeps_the_champion_and_its_rollback_target(tmp_path, registry):
    for seed in (1, 2, 3, 4):
        push(tmp_path, seed=seed, run_id=f"run-{seed}", champion=seed - 1 or None)
    registry.move_alias("encoder", Move("champion", None, 2, "promote", "ada@box", "better after all"))
    assert registry.rollback_target("encoder", "champion").version == 4
    assert [version.version for version in registry.versions_to_prune("encoder", keep=0)] == [3, 1]
    for version in registry.versions_to_prune("encoder", keep=0):
        registry.delete(version)
    assert registry.rollback_target("encoder", "champion").version == 4


def test_more_models_and_versions_than_fit_on_a_page_are_all_found(registry):
    for i in range(120):
        registry.connection.client.create_registered_model(f"model-{i:03d}")
    assert registry.names() == [f"model-{i:03d}" for i in range(120)]
    for _ in range(3):
        registry.connection.client.create_model_version("model-119", "runs:/0/model")
    registry.connection.client.set_registered_model_alias("model-119", "champion", "2")
    assert registry.aliased("model-119", "champion").version == 2


def test_an_interrupted_move_is_recognised_and_completed_by_its_author(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1")
    push(tmp_path, seed=2, run_id="run-2", champion=1)
    begun = Move("champion", 2, 1, "promote", "ada@box", "why not").stamped()
    registry.set_tag("encoder", *begun.as_tag())
    assert [m.completed for m in registry.history("encoder")] == [True, True, False]
    registry.move_alias("encoder", Move("champion", None, 1, "promote", "ada@box", "why not"))
    assert [(m.version, m.completed) for m in registry.history("encoder")] == [(1, True), (2, True), (1, True)]


def test_a_move_by_another_tool_that_an_earlier_release_recorded_is_read_as_external(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1")
    record = {
        "alias": "champion",
        "previous": 1,
        "version": 1,
        "kind": "found",
        "by": "unknown",
        "reason": "",
        "at": "",
    }
    registry.set_tag("encoder", "alias_move.20250101T000000.000000.beef", json.dumps(record | {"done": True}))
    assert [move.kind for move in registry.history("encoder")] == ["external", "push"]


def resolve(tmp_path: Path, name: str, expected: str | None = None, required: bool = True) -> str:
    output = artifact(standard_artifacts.Model, tmp_path / name)
    properties = {
        "settings": ChampionSettings(model_name="encoder").model_dump_json(),
        "registry_directory": str(tmp_path / "registry"),
        "expected": expected,
        "required": int(required),
    }
    resolver.Executor().Do({}, {"model": [output]}, properties)
    return output.uri


def test_resolver_brings_the_champion_or_says_that_there_is_none(tmp_path, registry):
    before = resolve(tmp_path, "before", expected="none")
    assert (champion_artifact.read(before), champion_artifact.read_statistics(before)) == (Resolved(), None)
    push(tmp_path, seed=1, run_id="run-1")
    identity = champion_artifact.identity(registry.aliased("encoder", "champion"), None)
    champion = resolve(tmp_path, "after", expected=identity)
    assert champion_artifact.read(champion) == Resolved(champion=Champion(name="encoder", version=1))
    assert champion_artifact.read_statistics(champion) == releases.STATISTICS
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(
        export.Embeddings.of_export(f"{champion}/Format-Serving")(noise),
        export.Embeddings.of_export(str(tmp_path / "model-1" / "Format-Serving"))(noise),
        atol=1e-6,
    )
    # A warm start can load a released encoder.
    assert export.load_encoder(f"{champion}/Format-Serving").count_params() > 0


def test_a_damaged_champion_stops_a_run_with_advice(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1")
    (stored(registry, 1) / "artifacts" / "saved_model" / "saved_model.pb").write_bytes(b"rotten")
    with pytest.raises(
        UserError, match=r"champion cannot be read \(models:/encoder/1: .*saved_model.pb has another"
    ) as raised:
        resolve(tmp_path, "strict")
    assert "--accept-baseline-reset" in str(raised.value)
    found = champion_artifact.read(resolve(tmp_path, "lenient", required=False)).champion
    assert (found.version, "saved_model.pb has another sha256" in found.problem) == (1, True)
    shutil.rmtree(stored(registry, 1))
    with pytest.raises(UserError, match="its files are gone"):
        resolve(tmp_path, "gone")


def test_resolver_also_brings_the_best_release_unless_a_rollback_left_it_or_it_is_the_champion(tmp_path, registry):
    def found(name: str) -> Resolved:
        best = registry.best_release("encoder", "champion")
        identity = champion_artifact.identity(registry.aliased("encoder", "champion"), best)
        return champion_artifact.read(resolve(tmp_path, name, expected=identity))

    def version(number: int) -> Champion:
        return Champion(name="encoder", version=number)

    assert registry.best_release("encoder", "champion") is None
    for seed, accuracy in enumerate((0.58, 0.6, 0.59, 0.585), start=1):
        push(tmp_path, seed=seed, run_id=f"run-{seed}", accuracy=accuracy, champion=seed - 1 or None)
        best = version(2) if seed > 2 else None
        assert found(f"after-{seed}") == Resolved(champion=version(seed), best_release=best)
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    best = champion_artifact.best_release_directory(str(tmp_path / "after-4"))
    np.testing.assert_allclose(
        export.Embeddings.of_export(f"{best}/Format-Serving")(noise),
        export.Embeddings.of_export(str(tmp_path / "model-2" / "Format-Serving"))(noise),
        atol=1e-6,
    )
    # Pruning keeps it, next to the champion and the version that a rollback goes to.
    assert [v.version for v in registry.versions_to_prune("encoder", keep=0)] == [1]
    # Its files are damaged, which is told, but does not stop a run.
    shutil.rmtree(stored(registry, 2))
    damaged = found("damaged").best_release
    assert (damaged.version, "its files are gone" in damaged.problem) == (2, True)
    # A rollback left versions 4 and 2, because they were bad in practice.
    registry.move_alias("encoder", Move("champion", None, 3, "rollback", "ada@box", "bad"))
    registry.move_alias("encoder", Move("champion", None, 2, "rollback", "ada@box", "worse"))
    registry.move_alias("encoder", Move("champion", None, 1, "rollback", "ada@box", "very bad"))
    assert found("rolled back") == Resolved(champion=version(1))


def test_resolver_refuses_a_champion_that_changed_since_the_start_of_the_run(tmp_path, registry):
    push(tmp_path, seed=1, run_id="run-1")
    with pytest.raises(UserError, match="champion changed from none to encoder:1:"):
        resolve(tmp_path, "late", expected="none")


def test_a_real_server_holds_the_whole_release(tmp_path, mlflow_server):
    first = push(tmp_path, seed=1, run_id="run-1")
    assert first["uri"] == "models:/encoder/1"
    assert first["page"] == f"{mlflow_server}/#/models/encoder/versions/1"
    assert first["page"] in (tmp_path / "run-1" / "pushed" / "report.html").read_text()
    assert push(tmp_path, seed=1, run_id="run-2")["changed"] is False
    assert push(tmp_path, seed=2, run_id="run-3", champion=1)["version"] == 2
    server = ModelRegistry("unused")
    assert [(v.version, v.aliases) for v in server.versions("encoder")] == [(2, ("champion",)), (1, ())]
    assert [differences(server, version) for version in server.versions("encoder")] == [[], []]
    assert champion_artifact.read(resolve(tmp_path, "champion")).champion == Champion(name="encoder", version=2)
    server.delete(server.version("encoder", 1))
    assert [v.version for v in server.versions("encoder")] == [2]
    # Nothing was written to the embedded registry.
    assert not (tmp_path / "registry").exists()
    assert not Path("unused").exists()


def test_a_server_that_does_not_answer_is_reported_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:s3cret@127.0.0.1:9/mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = ModelRegistry(str(tmp_path))
    with pytest.raises(
        UserError, match=r"MLflow server http://127.0.0.1:9/mlflow .MLFLOW_TRACKING_URI. refused: .*127\.0\.0\.1:9"
    ) as raised:
        registry.names()
    # Neither errors nor reports show the password in the address.
    assert "s3cret" not in str(raised.value)
    version = Version("my model", 3, "run", "", "", None, "", datetime.now(UTC))
    assert registry.page(version) == "http://127.0.0.1:9/mlflow/#/models/my%20model/versions/3"
