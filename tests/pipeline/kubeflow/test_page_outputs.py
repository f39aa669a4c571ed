"""What the page of Kubeflow Pipelines gets to show, in the form that kfp's own artifacts have."""

import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from kfp import dsl
from kfp.pipeline_spec import pipeline_spec_pb2

from components.linear_probe_evaluator import artifact as evaluation_artifact
from components.registry_pusher import artifact as push_artifact
from components.registry_pusher.artifact import Push
from pipeline.kubeflow import invocation, page_outputs
from tests.components.releases import CLASSES, REPORT, label_free_metrics, metrics
from trainer.results import FIGURES_FILE, TrainingFigures

MATRIX = ((5, 15), (5, 15))


@pytest.fixture(autouse=True)
def launcher_root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(invocation.ROOT_VARIABLE, str(tmp_path))
    return tmp_path


def written(component: str, directory: Path, key: str) -> dict[str, pipeline_spec_pb2.RuntimeArtifact]:
    """The artifacts as the launcher parses them, after checking that it takes all values of their metadata."""
    spec: dict = {"components": {"Trainer": {}, "LinearProbeEvaluator": {}, "RegistryPusher": {}}}
    page_outputs.declare(spec)
    uris = {name: f"minio://b/{name}" for name in spec["components"][component]["outputDefinitions"]["artifacts"]}
    artifacts = page_outputs.write(component, uris, {key: str(directory)})
    output = json_format.Parse(json.dumps({"artifacts": artifacts}), pipeline_spec_pb2.ExecutorOutput())
    assert output.artifacts.keys() == uris.keys()
    found = {name: listed.artifacts[0] for name, listed in output.artifacts.items()}
    for artifact in found.values():
        assert all(value.WhichOneof("kind") != "null_value" for value in artifact.metadata.fields.values())
    return found


def test_the_types_are_those_of_kfp():
    spec: dict = {
        "components": {name: {"outputDefinitions": {"artifacts": {"x": {}}}} for name in page_outputs._OUTPUTS}
    }
    page_outputs.declare(spec)
    declared = [component["outputDefinitions"]["artifacts"] for component in spec["components"].values()]
    assert all("x" in artifacts for artifacts in declared)
    titles = {
        artifact["artifactType"]["schemaTitle"] for artifacts in declared for artifact in artifacts.values() if artifact
    }
    assert titles == {kind.schema_title for kind in (dsl.Metrics, dsl.ClassificationMetrics, dsl.HTML, dsl.Model)}


def test_figures_of_a_training_are_metrics(tmp_path):
    figures = TrainingFigures(steps=3, seconds=1.5, images_per_second=100.0, final_loss=2.5)
    (tmp_path / FIGURES_FILE).write_text(figures.model_dump_json(), encoding="utf-8")
    (training,) = written("Trainer", tmp_path, "model_run").values()
    assert dict(training.metadata) == figures.model_dump()


def test_an_evaluation_is_metrics_a_confusion_matrix_and_the_report(tmp_path, launcher_root):
    evaluation = metrics(0.5).model_copy(update={"confusion": MATRIX})
    evaluation_artifact.write_evaluation(str(tmp_path / "evaluation"), evaluation, REPORT, None)
    found = written("LinearProbeEvaluator", tmp_path / "evaluation", evaluation_artifact.EVALUATION)
    accuracy = dict(found["accuracy"].metadata)
    assert (accuracy["probe_accuracy"], accuracy["untrained_accuracy"], accuracy["blessed"]) == (0.5, 0.2, True)
    assert (accuracy["unlabelled"], accuracy["test"]) == (100, 40)
    # Without a champion there is no accuracy of one.
    assert "champion_accuracy" not in accuracy
    expected = dsl.ClassificationMetrics()
    expected.log_confusion_matrix(CLASSES, [list(row) for row in MATRIX])
    assert json_format.MessageToDict(found["confusion_matrix"].metadata) == expected.metadata
    assert (launcher_root / "minio" / "b" / "report").read_text() == REPORT


def test_without_a_small_matrix_there_is_none(tmp_path):
    evaluation_artifact.write_evaluation(str(tmp_path / "evaluation"), metrics(0.5), REPORT, None)
    found = written("LinearProbeEvaluator", tmp_path / "evaluation", evaluation_artifact.EVALUATION)
    assert not found["confusion_matrix"].metadata.fields


def test_figures_without_labels_are_metrics(tmp_path):
    evaluation_artifact.write_evaluation(str(tmp_path / "evaluation"), label_free_metrics(0.5), REPORT, None)
    found = written("LinearProbeEvaluator", tmp_path / "evaluation", evaluation_artifact.EVALUATION)
    accuracy = dict(found["accuracy"].metadata)
    assert (accuracy["neighbour_consistency"], accuracy["lidar"], accuracy["rank_me"]) == (0.5, 4.5, 5.5)
    assert "probe_accuracy" not in accuracy


@pytest.mark.parametrize(
    ("page", "uri"),
    [
        ("http://mlflow:5000/#/models/encoder/versions/3", "http://mlflow:5000/#/models/encoder/versions/3"),
        (None, "models:/encoder/3"),
    ],
)
def test_a_push_is_a_model_with_its_place_in_the_registry(tmp_path, launcher_root, page, uri):
    push = Push(pushed=True, outcome="released", name="encoder", version=3, uri="models:/encoder/3", page=page)
    push_artifact.write(str(tmp_path / "pushed"), push, REPORT)
    found = written("RegistryPusher", tmp_path / "pushed", push_artifact.PUSHED)
    assert found["registered_model"].uri == uri
    model = dict(found["registered_model"].metadata)
    assert (model["name"], model["version"], model["outcome"]) == ("encoder", 3, "released")
    assert (launcher_root / "minio" / "b" / "report").read_text() == REPORT


def test_what_was_not_pushed_has_no_place_in_the_registry(tmp_path):
    push_artifact.write(str(tmp_path / "pushed"), Push(outcome="not blessed"), REPORT)
    model = written("RegistryPusher", tmp_path / "pushed", push_artifact.PUSHED)["registered_model"]
    assert model.uri == "minio://b/registered_model"
    assert model.metadata["outcome"] == "not blessed"


def test_other_components_have_none():
    assert page_outputs.write("DataGate", {}, {}) == {}
