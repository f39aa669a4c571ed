"""`nnclr ingest` and `nnclr evaluate`, which run a step of the pipeline alone."""

import json

from components.image_example_gen import artifact as examples_artifact
from components.linear_probe_evaluator import artifact as evaluation_artifact
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
