"""`nnclr ingest` and `nnclr evaluate`, which run a step of the pipeline alone."""

import json

import keras
import pytest
from PIL import Image

from components.image_example_gen import artifact as examples_artifact
from components.linear_probe_evaluator import artifact as evaluation_artifact
from components.model_registry import ModelRegistry
from components.registry_pusher import release
from pipeline.data import sample
from tests.components import releases
from tests.pipeline.commands.sessions import session

QUICK = ("--set", "evaluator.label_shares=[]", "--set", "evaluator.neighbours=[5]")


def test_images_are_ingested_and_an_encoder_is_evaluated_on_them_or_on_their_source(tmp_path):
    sample.write_sample(tmp_path / "pictures", counts={"unlabelled": 40, "train": 60, "test": 40})
    releases.export_model(tmp_path / "encoder" / "model", seed=1)
    (tmp_path / "encoder" / "logs").mkdir()
    (tmp_path / "encoder" / "logs" / "history.csv").write_text("step,c_loss\n1,2.5\n2,2.0\n")
    ingest = ["ingest", "pictures", "examples", "--set", "data.image_size=32"]
    (ingested, again, wrong, here, from_source, nothing) = session(
        tmp_path,
        [*ingest, "--json"],
        ingest,
        ["ingest", "nowhere", "other"],
        ["evaluate", "encoder", "--data", "examples", "--output", "results", *QUICK, "--json"],
        ["evaluate", "encoder/model", "--data", "pictures", *QUICK],
        ["evaluate", "examples", "--data", "examples"],
    )
    assert ingested.code == 0, ingested.err
    assert ingested.json["counts"] == {"unlabelled": 40, "train": 60, "test": 40}
    assert ingested.json == json.loads(examples_artifact.read(str(tmp_path / "examples")).model_dump_json())
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    assert (again.code, "examples already exists: name a new folder" in again.err) == (2, True)
    assert (wrong.code, "nowhere does not exist" in wrong.err) == (3, True)
    assert not (tmp_path / "other").exists()

    # Such an encoder beats an untrained one, which it is, by nothing.
    assert here.code == from_source.code == 4, here.err
    metrics = evaluation_artifact.read_metrics(str(tmp_path / "results"))
    assert here.json == json.loads(metrics.model_dump_json())
    assert metrics.counts == {"unlabelled": 40, "train": 60, "test": 40}
    assert 0 < metrics.probe_accuracy < 1
    assert metrics.champion is None
    report = evaluation_artifact.read_report(str(tmp_path / "results"))
    assert "Loss over the training steps" in report
    assert evaluation_artifact.read_probe(str(tmp_path / "results")).weights.shape == (8, 10)
    # The source's labelled images give the same figures, without its unlabelled ones.
    alike = evaluation_artifact.read_metrics(str(tmp_path / "evaluation"))
    assert alike.probe_accuracy == metrics.probe_accuracy
    assert alike.counts["unlabelled"] == 0
    assert f"Linear probe: {metrics.probe_accuracy:.1%}" in from_source.out
    assert "Missed: " in from_source.out
    assert "Report: evaluation/report.html" in from_source.out
    assert (nothing.code, "examples holds no SavedModel" in nothing.err) == (2, True)


@pytest.mark.long
def test_encoders_of_different_origin_are_compared_each_at_its_own_size(tmp_path):
    sample.write_sample(tmp_path / "pictures", counts={"unlabelled": 4, "train": 60, "test": 40})
    releases.export_model(tmp_path / "encoder" / "model", seed=1)
    layers = [keras.Input([48, 48, 3]), keras.layers.Conv2D(6, 5, 3)]
    keras.Sequential(layers).save(tmp_path / "other.keras")
    registry = ModelRegistry(str(tmp_path / "nnclr-runs" / "registry"))
    released = release.build(releases.candidate(str(tmp_path / "encoder" / "model"), "run"), "m", "x", tmp_path / "new")
    registry.register("m", released)
    data = ["--data", "pictures", *QUICK]
    (compared, shown) = session(
        tmp_path,
        ["compare", "encoder", "other.keras", *data, "--output", "out", "--json"],
        ["compare", "encoder/model", "models:/m/1", *data],
    )
    assert compared.code == 0, compared.err
    ours, other = compared.json["models"]
    assert (ours["name"], ours["image_size"], ours["training_seconds"]) == ("encoder", [32, 32], 1.5)
    assert (other["name"], other["image_size"], other["training_seconds"]) == ("other", [48, 48], None)
    # The sample has official folds of 12 labels.
    assert [(point["labels"], point["draws"]) for point in ours["points"]] == [(12, 10), (60, 1)]
    (lead,) = compared.json["leads"].values()
    accuracies = [model["points"][-1]["accuracy"] for model in (ours, other)]
    assert lead[-1]["mean"] == pytest.approx(accuracies[1] - accuracies[0])
    # The pictures are stored large enough for both: none is enlarged.
    assert compared.json["notes"] == []
    report = evaluation_artifact.read_report(str(tmp_path / "out"))
    assert "Differences from encoder" in report
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == compared.json
    assert shown.code == 0, shown.err
    # A registered version is the same encoder.
    assert "m version 1 compared with model: +0.0 points" in " ".join(shown.out.split())
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_comparison_needs_labelled_images(tmp_path):
    releases.export_model(tmp_path / "encoder", seed=1)
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "pictures" / "one.png")
    (found,) = session(tmp_path, ["compare", "encoder", "--data", "pictures"])
    assert (found.code, "labelled" in found.err, "Traceback" in found.err) == (3, True, False)
