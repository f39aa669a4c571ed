"""Whole runs of the pipeline through the command, with every component real."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from components.model_registry import ModelRegistry
from components.model_registry.pipeline_runs import PipelineRuns
from pipeline.config.notify import Event
from pipeline.data import sample
from tests import interpreters
from tests.pipeline.commands.sessions import Finished, fresh, session
from tests.pipeline.test_notifications import SECRET, receiver

TINY = [
    *("--preset", "sample", "--set", "data.image_size=32"),
    # A minute is too short to learn more than chance could: these runs show the way, not the encoder.
    *("--set", "evaluator.beat_untrained=false", "--set", "evaluator.label_shares=[]"),
    *("--set", "evaluator.least_test_images=1"),
    *("--set", "trainer.encoder={width: 16, batch_norm: false}", "--set", "trainer.projection.batch_norm=false"),
    *("--set", "trainer.optimizer={learning_rate: 0.001, warmup: 0, schedule: constant}"),
    *("--set", "trainer.precision=float32", "--set", "trainer.epochs=6"),
    *("--set", "trainer.batch_size=64", "--set", "trainer.support_set_size=300", "--set", "evaluator.floor=0"),
    *("--set", "registry.formats=[]"),
]
# Each end of a run is told.
NOTIFY = ["--set", f"notify=[{{on: {json.dumps(get_args(Event))}, url_from: CHAT}}]"]
COMPONENTS = [
    *("ChampionResolver", "ImageExampleGen", "SchemaImporter", "StatisticsGen", "ExampleValidator"),
    *("DataGate", "Trainer", "LinearProbeEvaluator", "RegistryPusher"),
]


def files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("data") / "tiny"
    sample.write_sample(directory, counts={"unlabelled": 640, "train": 300, "test": 200})
    return directory


def require_data_checks(finished: Finished, drift: str, folder: Path) -> None:
    """Demands that the images of a run passed every check, with this verdict on drift, and that the report says so."""
    checks = finished.json["evaluation"]["data_checks"]
    assert [check["name"] for check in checks if not check["passed"]] == []
    assert checks[-1]["sentences"][0].startswith(drift)
    assert drift in (folder / "nnclr-runs" / "runs" / finished.json["run_id"] / "report.html").read_text()


def test_the_main_job_from_archive_to_champion_and_what_follows(data, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with receiver() as chat:
        monkeypatch.setenv("CHAT", chat.address)
        _main_job(data, tmp_path)
    # One notification for each run, and none of the files has the address.
    told = [notice for _, _, notice in chat.received]
    assert [notice["event"] for notice in told] == ["released", "unchanged", "unchanged", "refused", "failed"]
    assert told[0]["version"] == "models:/nnclr-sample/1"
    assert told[0]["interval"][0] < told[0]["accuracy"] < told[0]["interval"][1]
    assert Path(told[0]["report"]).is_file()
    assert "below the floor 99.0%" in told[3]["text"]
    assert "width 16" in told[4]["reason"]
    for path in files(tmp_path):
        assert SECRET.encode() not in path.read_bytes(), path
    # Each was an MLflow run from its start; that of the training has its curves.
    registry = ModelRegistry(str(tmp_path / "nnclr-runs" / "registry"))
    recorded = PipelineRuns(registry, "nnclr-sample").newest()
    assert [(run.run, run.outcome) for run in reversed(recorded)] == [
        (notice["run_id"], {"refused": "not blessed"}.get(notice["event"], notice["event"])) for notice in told
    ]
    assert logged_steps(registry) == [int(row["step"]) for row in history(tmp_path)]
    # The page of all runs has them all, too.
    page = (tmp_path / "nnclr-runs" / "runs" / "index.html").read_text()
    assert [page.count(notice["run_id"] + "/run.log") for notice in told] == [1] * 5


def _main_job(data: Path, tmp_path: Path) -> None:
    run = ["run", *TINY, *NOTIFY, "--data", str(data), "--json", "--set", "registry.formats=[onnx]"]
    # For what is printed while modules load.
    first = fresh(tmp_path, run)
    second, third, worse, mismatched, listed, shown = session(
        tmp_path,
        run,
        run,
        [*run, "--set", "evaluator.floor=0.99"],
        [*run, "--set", "trainer.warm_start=champion", "--set", "trainer.encoder.width=24"],
        ["models", "list", "--json"],
        ["models", "list"],
    )

    assert first.code == 0, first.err
    result = first.json
    assert list(first.states) == COMPONENTS
    assert set(first.states.values()) == {"done"}
    assert result["source"] == result["data"]["source"] == str(data)
    assert len(result["data"]["fingerprint"]) == 32
    assert result["data"]["counts"] == {"unlabelled": 640, "train": 300, "test": 200}
    assert result["trainer"]["steps"] == 60
    assert 0 < result["trainer"]["final_loss"] < 6
    evaluation = result["evaluation"]
    assert min(evaluation["probe_accuracy"], evaluation["untrained_accuracy"]) > 0.05
    assert evaluation["probe_interval"][0] < evaluation["probe_accuracy"] < evaluation["probe_interval"][1]
    assert evaluation["champion_accuracy"] is None
    assert (evaluation["blessed"], evaluation["reasons"]) == (True, [])
    expected = {
        **{"name": "nnclr-sample", "version": 1, "uri": "models:/nnclr-sample/1", "alias": "champion"},
        **{"pushed": True, "page": None, "served": None, "not_promoted": None, "promotion": None},
    }
    assert result["registry"] == expected | {"changed": True, "outcome": "released"}
    # The screen: a line as each component starts and ends, and none of TensorFlow's or TFX's chatter.
    for component in COMPONENTS:
        assert f"{component} started" in first.err
        assert f"{component} done in " in first.err
    assert "Ingest: " in first.err
    assert "Training: " in first.err
    for chatter in ("oneDNN", "absl", "INFO", "WARNING", "Warning"):
        assert chatter not in first.err + first.out
    # Everything lies in the default working directory.
    assert [path.name for path in tmp_path.iterdir()] == ["nnclr-runs"]
    runs = tmp_path / "nnclr-runs" / "runs" / result["run_id"]
    assert json.loads((runs / "summary.json").read_text()) == result
    assert "Execution" in (runs / "run.log").read_text()
    assert "Released as nnclr-sample version 1" in (runs / "report.html").read_text()

    # The second run measures the same model against the champion that it now is; the third has nothing left to do.
    assert second.code == third.code == 0, second.err
    assert {name for name, state in second.states.items() if state == "done"} == {
        "ChampionResolver",
        "DataGate",
        "LinearProbeEvaluator",
        "RegistryPusher",
    }
    require_data_checks(first, "There is no champion to compare the images with.", tmp_path)
    require_data_checks(second, "The largest divergence is 0.00, of the ", tmp_path)
    assert {name for name, state in third.states.items() if state == "done"} == {"RegistryPusher"}
    assert "Trainer cached" in third.err
    for again in (second, third):
        assert again.json["evaluation"]["champion_accuracy"] == evaluation["probe_accuracy"]
        assert again.json["registry"] == expected | {"changed": False, "outcome": "unchanged"}

    assert worse.code == 4
    assert worse.json["evaluation"]["blessed"] is False
    assert "below the floor 99.0%" in worse.json["evaluation"]["reasons"][0]
    assert worse.json["registry"]["name"] is None

    # A champion of another shape is nothing to start from.
    assert mismatched.code == 2
    assert "width 16" in mismatched.err
    assert "this training needs (name convnet, width 24" in mismatched.err
    assert "Traceback" not in mismatched.err

    assert (listed.code, shown.code) == (0, 0)
    (version,) = listed.json
    assert (version["name"], version["version"], version["aliases"]) == ("nnclr-sample", 1, ["champion"])
    assert version["probe_accuracy"] == evaluation["probe_accuracy"]
    assert f"{evaluation['probe_accuracy']:.1%}" in shown.out


@pytest.mark.long
def test_stopped_in_training_it_goes_on_from_there(data, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = ["run", *TINY, "--data", str(data), "--json", "--set", "trainer.duration=150 steps"]
    process = interpreters.commands().start("-m", "pipeline", *run, cwd=tmp_path)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("nnclr-runs/checkpoints/*/*.npz")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.terminate()
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 75, stderr
    assert "Trainer failed" in stderr
    assert "of 150, and its state is saved. Run the same command again to resume." in " ".join(stderr.split())
    assert "Traceback" not in stderr
    (again,) = session(tmp_path, run)
    assert again.states["Trainer"] == "done", again.err
    assert again.json["trainer"]["steps"] == 150
    assert {name for name, state in again.states.items() if state == "cached"} >= {"ImageExampleGen", "StatisticsGen"}
    log = (tmp_path / "nnclr-runs" / "runs" / again.json["run_id"] / "run.log").read_text()
    assert "Going on from" in log
    assert not list(tmp_path.glob("nnclr-runs/checkpoints/*/*"))
    # In MLflow, it went on in the same run, and has each measurement once.
    registry = ModelRegistry(str(tmp_path / "nnclr-runs" / "registry"))
    (record,) = PipelineRuns(registry, "nnclr-sample").newest()
    assert (record.run, record.outcome) == (again.json["run_id"], "released")
    steps, expected = logged_steps(registry), [int(row["step"]) for row in history(tmp_path)]
    assert steps == expected


def history(folder: Path) -> list[dict[str, str]]:
    (path,) = folder.glob("nnclr-runs/artifacts/Trainer/model_run/*/history.csv")
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def logged_steps(registry: ModelRegistry) -> list[int]:
    """Returns the steps of the loss in the only MLflow run of the pipeline that has curves."""
    client = registry.connection.client
    experiment = client.get_experiment_by_name("nnclr-sample pipeline runs")
    runs = client.search_runs([experiment.experiment_id], "metrics.c_loss > -1")
    (logged,) = [client.get_metric_history(run.info.run_id, "c_loss") for run in runs]
    return sorted(metric.step for metric in logged)


def test_bad_data_stops_before_anything_is_trained(data, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in data.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "train_y.bin").write_bytes(b"\x0b" + (data / "train_y.bin").read_bytes()[1:])
    pictures = tmp_path / "pictures"
    (pictures / "unlabelled").mkdir(parents=True)
    for i in range(40):
        Image.effect_noise((5, 5), 80).convert("RGB").resize((40, 40)).save(pictures / "unlabelled" / f"{i:02d}.png")
    (pictures / "unlabelled" / "13.png").write_bytes(b"<html>")
    (tmp_path / "black" / "unlabelled").mkdir(parents=True)
    for i in range(40):
        Image.new("RGB", (40, 40)).save(tmp_path / "black" / "unlabelled" / f"{i:02d}.png")
    own = [*TINY, "--set", "trainer.batch_size=8", "--set", "trainer.epochs=1", "--json", "--workdir", "w"]
    served = tmp_path / "served" / "1795633583"
    served.mkdir(parents=True)
    (served / "saved_model.pb").write_text("published by another tool")
    label, missing, no_gpu, foreign, undecodable, tolerated, too_few, black = session(
        tmp_path,
        ["run", *TINY, "--data", "broken", "--workdir", "w"],
        ["run", *TINY, "--data", "nowhere", "--workdir", "w"],
        ["run", *own, "--data", "pictures", "--set", "trainer.devices=gpu"],
        ["run", *own, "--data", "pictures", "--set", "registry.serving_directory=served"],
        ["run", *own, "--data", "pictures"],
        ["run", *own, "--data", "pictures", "--set", "data.max_rejected=1"],
        ["run", *own, "--data", "pictures", "--set", "data.max_rejected=1", "--set", "trainer.batch_size=64"],
        ["run", *own, "--data", "black", "--set", "gate.exact_duplicates=off"],
    )
    assert label.code == missing.code == undecodable.code == too_few.code == black.code == 3
    assert "train_y.bin has the label 11 at index 0, outside 1..10" in label.err
    assert "nowhere does not exist or is empty" in missing.err
    assert "1 pictures cannot be decoded, 0 are allowed: unlabelled/13.png" in undecodable.err
    assert "ImageExampleGen failed" in undecodable.err
    assert "Trainer started" not in undecodable.err
    assert "`unlabelled` has 39 images, fewer than one batch of 64" in too_few.err
    assert "100.0% of the 40 images of split unlabelled have a single brightness, more than 50.0%" in black.err
    assert "repeat another one pixel by pixel" not in black.err
    assert "Trainer started" not in black.err
    assert no_gpu.code == 2
    assert "trainer.devices is gpu. This machine has no NVIDIA driver" in no_gpu.err
    assert "ImageExampleGen started" not in no_gpu.err
    assert foreign.code == 2
    assert f"{tmp_path}/served holds the versions 1795633583" in " ".join(foreign.err.split())
    assert "ImageExampleGen started" not in foreign.err
    assert (served / "saved_model.pb").read_text() == "published by another tool"
    for finished in (label, missing, no_gpu, foreign, undecodable, too_few, black):
        assert "Traceback" not in finished.err + finished.out
        assert finished.err.rstrip().splitlines()[-1].startswith("Error: ")

    # Without labels an encoder is trained, but nobody can bless it.
    assert tolerated.code == 4, tolerated.err
    assert tolerated.json["data"]["counts"] == {"unlabelled": 39, "train": 0, "test": 0}
    assert tolerated.json["data"]["rejected"] == 1
    assert tolerated.json["evaluation"]["probe_accuracy"] is None
    assert "no labelled images" in tolerated.json["evaluation"]["reasons"][0]
    assert tolerated.json["evaluation"]["label_free"]["images"] == 39
    # It says so before it trains.
    assert tolerated.err.index("set evaluator.without_labels to compare") < tolerated.err.index("Trainer started")


@pytest.mark.long
def test_steps_before_the_trainer_never_start_tensorflows_runtime_so_they_hold_no_gpu(data, tmp_path):
    code = """
import sys
import trainer.loop
from tensorflow.python.eager import context
def probe(*_, **__):
    raise RuntimeError(f"runtime started: {context.context()._context_handle is not None}")
trainer.loop.train = probe
from pipeline import cli
cli.main()
"""
    command = ["-c", code, "run", *TINY, "--data", str(data), "--workdir", "w"]
    # What NVIDIA's driver installs, on a machine whose GPU TensorFlow does not see.
    program = tmp_path / "nvidia-smi"
    program.touch(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = interpreters.commands().run(*command, cwd=tmp_path, environment=environment)
    # The same run shows how a component's failure ends: one line, the log's place, exit code 1.
    assert process.returncode == 1, process.stderr
    warning = process.stderr.index("Warning: This machine has an NVIDIA driver, but TensorFlow sees no GPU")
    assert warning < process.stderr.index("ImageExampleGen started")
    assert "DataGate done" in process.stderr
    assert "Trainer failed" in process.stderr
    assert "Failed: RuntimeError: runtime started: False" in process.stderr
    assert "The details are in w/runs/" in process.stderr
    assert "Traceback" not in process.stderr
    (log,) = tmp_path.glob("w/runs/*/run.log")
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "The source of images is missing: name it with --data SOURCE"),
        (["run", "--set", "trainer.epoch=1"], "Did you mean trainer.epochs?"),
        (["run", "--preset", "nope"], "no preset 'nope'"),
        (["run", "--beam", "runner"], "--beam takes NAME=VALUE"),
        (["models", "list"], "no model registry in nnclr-runs"),
        (["data", "sample", "."], ". already exists"),
        (["compile", "-o", "pipeline.yaml"], "The source of images is missing: name it with --data SOURCE"),
        (["compile", "--data", "gs://b", "-o", "no/pipeline.yaml"], "the folder no does not exist"),
        (["compile", "--set", "kubeflow.steps.Trainer.gpus=-1", "-o", "pipeline.yaml"], "kubeflow.steps.Trainer.gpus"),
        (["fly"], "No such command 'fly'"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_sentence(arguments, message, tmp_path):
    (tmp_path / "something").touch()
    process = interpreters.commands().run("-m", "pipeline", *arguments, cwd=tmp_path)
    assert process.returncode == 2, process.stderr
    assert message in " ".join(process.stderr.split())
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["data", "--help"], ["models", "list", "--help"], ["submit", "--help"]]
)
def test_help_loads_nothing_heavy(arguments):
    code = (
        "import sys; from pipeline import cli\n"
        f"sys.argv = ['nnclr', *{arguments!r}]\n"
        "try: cli.main()\n"
        "except SystemExit as exit: code = exit.code\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'mlflow', 'sklearn', 'numpy', 'keras', 'kfp'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy or code else 0)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 0, process.stderr
    assert "Usage: nnclr" in process.stdout


def test_a_working_directory_takes_one_run_at_a_time(tmp_path):
    from pipeline.local.workdir import Workdir
    from trainer.errors import UserError

    workdir = Workdir(tmp_path / "w")
    with workdir.locked(), pytest.raises(UserError, match="Another run is using"), workdir.locked():
        pass
    with workdir.locked():
        pass
