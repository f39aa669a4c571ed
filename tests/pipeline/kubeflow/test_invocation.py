"""What the launcher hands over, and what it gets back."""

import json

import pytest

from pipeline.config import beam_options
from pipeline.kubeflow import invocation
from pipeline.kubeflow.parameters import PREFIX

EXAMPLES = {"artifactType": {"instanceSchema": "title: tfx.Examples\ntype: object\n"}}
GIVEN = {
    "inputs": {
        "parameterValues": {"settings": '{"floor": 0.5}', "run_parameter_floor": 0.7},
        "artifacts": {
            "examples": {
                "artifacts": [
                    {"uri": "gs://b/examples", "type": {"instanceSchema": ""}, "metadata": {"split_names": '["train"]'}}
                ]
            }
        },
    },
    "outputs": {
        "artifacts": {
            "model": {"artifacts": [{"uri": "minio://b/run/model", "type": {"schemaTitle": "tfx.Model"}}]},
            "report": {"artifacts": [{"uri": "minio://b/run/report", "type": {"schemaTitle": "system.HTML"}}]},
            "executor-logs": {"artifacts": [{"uri": "minio://b/logs", "type": {"schemaTitle": "system.Artifact"}}]},
        },
        "outputFile": "/tmp/kfp_outputs/output_metadata.json",
    },
}


def test_types_are_restored_outputs_of_kfp_dropped_and_uris_local():
    before = json.dumps(GIVEN)
    found = invocation.to_tfx(GIVEN, {"artifacts": {"examples": EXAMPLES}})
    (examples,) = found["inputs"]["artifacts"]["examples"]["artifacts"]
    assert examples == {
        "uri": "/gcs/b/examples",
        "type": EXAMPLES["artifactType"],
        "metadata": {"split_names": '["train"]'},
    }
    assert list(found["outputs"]["artifacts"]) == ["model"]
    assert found["outputs"]["artifacts"]["model"]["artifacts"][0]["uri"] == "/minio/b/run/model"
    assert found["outputs"]["outputFile"] == GIVEN["outputs"]["outputFile"]
    assert json.dumps(GIVEN) == before


def test_workers_on_other_machines_are_sent_to_the_bucket():
    dataflow = ["--beam_plugin=tfx", "--runner=FnApiRunner", "--runner=DataflowRunner"]
    assert not beam_options.workers_are_here(dataflow)
    assert beam_options.workers_are_here(["--beam_plugin=tfx", "--runner=FnApiRunner"])
    assert beam_options.workers_are_here([])
    found = invocation.to_tfx(GIVEN, {"artifacts": {"examples": EXAMPLES}}, remote=True)
    assert found["inputs"]["artifacts"]["examples"]["artifacts"][0]["uri"] == "gs://b/examples"
    # Beam has no file system for it: such a run must keep its artifacts under gs://.
    assert found["outputs"]["artifacts"]["model"]["artifacts"][0]["uri"] == "/minio/b/run/model"


def test_the_artifact_of_a_value_is_known():
    text = {"type": {"instanceSchema": "title: tfx.String\ntype: object\n"}}
    assert invocation.is_value(text)
    assert not invocation.is_value({"type": {"schemaTitle": "tfx.Model"}})
    assert not invocation.is_value({"type": EXAMPLES["artifactType"]})


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("gs://bucket/a/b", "/gcs/bucket/a/b"),
        ("s3://bucket/a", "/s3/bucket/a"),
        ("minio://bucket/a", "/minio/bucket/a"),
        ("/mnt/a", "/mnt/a"),
    ],
)
def test_local_paths_are_the_launchers(uri, path):
    assert invocation.local_path(uri) == path


def test_outputs_go_back_to_where_the_launcher_said():
    written = {"artifacts": {"model": {"artifacts": [{"uri": "/minio/b/run/model", "metadata": {"a": 1.0}}]}}}
    back = invocation.to_kfp(written, GIVEN)
    assert back == {
        "artifacts": {"model": {"artifacts": [{"uri": "minio://b/run/model", "metadata": {"a": 1.0}}]}},
    }


def test_run_parameters_reach_json_in_json_and_the_environment():
    values = {
        "settings": json.dumps({"floor": 0.5, "seed": 0}),
        "custom_config": json.dumps({"settings": json.dumps({"epochs": 3}), "checkpoints": "/c"}),
        "alias": "champion",
        # TFX's own, which only looks like ours.
        "run_fn": "trainer.run_fn.run_fn",
    }
    given = {"floor": 0.7, "epochs": 9, "alias": "candidate", "uri": "http://mlflow", "none": ""}
    values |= {f"{PREFIX}{name}": value for name, value in given.items()}
    environment = {"OTHER": "kept"}
    targets = [
        *("floor=settings.floor", "epochs=custom_config.settings.epochs", "alias=alias"),
        *("uri=env:MLFLOW_TRACKING_URI", "none=env:OTHER"),
    ]
    invocation.apply_run_parameters(values, targets, environment)
    assert values == {
        "settings": json.dumps({"floor": 0.7, "seed": 0}),
        "custom_config": json.dumps({"settings": json.dumps({"epochs": 9}), "checkpoints": "/c"}),
        "alias": "candidate",
        "run_fn": "trainer.run_fn.run_fn",
    }
    assert environment == {"OTHER": "kept", "MLFLOW_TRACKING_URI": "http://mlflow"}
