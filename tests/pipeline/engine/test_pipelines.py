"""Pipelines on an engine outside of this process: a job server, and workers that share one folder with this machine."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image

from pipeline import config
from pipeline.data import sample
from pipeline.engine import runner
from pipeline.engine.worker_errors import EngineError
from tests import beam_engine, confinement
from tests.beam_engine import Engine
from tests.components import releases
from tests.pipeline.commands.sessions import session
from tests.pipeline.local.test_run import COMPONENTS, TINY
from trainer import failures
from trainer.errors import DataError, SettingsError

SIZE = ["--set", "data.image_size=32"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    """The folder that the workers see, with pictures in it."""
    folder = tmp_path_factory.mktemp("shared")
    sample.write_sample(folder / "pictures", counts={"unlabelled": 64, "train": 60, "test": 40})
    return folder


@pytest.fixture(scope="module")
def engine(shared, tmp_path_factory) -> Iterator[Engine]:
    if confinement.obstacle():
        pytest.skip(f"the workers would see all files, because {confinement.obstacle()}")
    with beam_engine.running(tmp_path_factory.mktemp("engine"), shared) as running:
        yield running


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_engine_and_this_process_write_the_same_bytes_every_time(engine, shared, tmp_path):
    pictures = shared / "folder"
    (pictures / "unlabelled").mkdir(parents=True)
    for number in range(20):
        Image.new("RGB", (40, 40), (number, 0, 255 - number)).save(pictures / "unlabelled" / f"{number}.png")
    for number in (3, 11):
        (pictures / "unlabelled" / f"{number}.png").write_bytes(b"<html>")
    ingest = ["ingest", "folder", *SIZE, "--set", "data.max_rejected=2", "--json"]
    first, second, here = session(
        shared,
        [*ingest, "first", *engine.options],
        [*ingest, "second", *engine.options],
        [*ingest, "here"],
    )
    assert first.code == second.code == here.code == 0, first.err + second.err + here.err
    assert first.json == second.json == here.json
    assert first.json["counts"] == {"unlabelled": 18, "train": 0, "test": 0}
    assert first.json["rejected"] == 2
    written = contents(shared / "first")
    assert written == contents(shared / "second") == contents(shared / "here")
    assert written["rejected.jsonl"].count(b"\n") == 2
    assert written["Split-unlabelled/data_tfrecord-00000-of-00001"]


@pytest.mark.long
def test_workers_compute_statistics(engine, shared, tmp_path):
    assert b"pixel_mean" in statistics_of(engine, shared, tmp_path)


@pytest.mark.long
def test_workers_that_beams_own_pool_starts_compute_statistics(shared, tmp_path):
    """They start anew: TFDV can be imported there only if they learn from the pipeline's options to load TFX first."""
    program = tmp_path / "bin" / "worker"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pipeline.engine.worker "$@"\n')
    program.chmod(0o755)
    with (
        beam_engine.running_job_server(tmp_path / "server") as job_server,
        beam_engine.running_pool(tmp_path / "pool", shared, program=str(program)) as pool,
    ):
        assert b"pixel_mean" in statistics_of(Engine(job_server, pool), shared, tmp_path)


def statistics_of(engine: Engine, shared: Path, temporary: Path) -> bytes:
    """Ingests the pictures, and computes statistics of their split `test` on an engine."""
    from tfx.components.statistics_gen import executor
    from tfx.types import artifact_utils, standard_artifacts
    from tfx.utils import io_utils

    folder = shared / temporary.name
    (ingested,) = session(shared, ["ingest", "pictures", str(folder / "examples"), *SIZE])
    assert ingested.code == 0, ingested.err
    examples, statistics = standard_artifacts.Examples(), standard_artifacts.ExampleStatistics()
    examples.uri, statistics.uri = str(folder / "examples"), str(folder / "statistics")
    examples.split_names = artifact_utils.encode_split_names(["test"])
    arguments = settings_of(engine).beam_pipeline_args()
    context = executor.Executor.Context(beam_pipeline_args=arguments, tmp_dir=str(temporary), unique_id="1")
    executor.Executor(context).Do({"examples": [examples]}, {"statistics": [statistics]}, {"exclude_splits": "[]"})
    return io_utils.read_bytes_file(str(folder / "statistics" / "Split-test" / "FeatureStats.pb"))


def settings_of(engine: Engine) -> config.Settings:
    return config.load(overrides=[f"{name}={value}" for name, value in engine.settings.items()])


def test_a_folder_that_workers_do_not_share_is_named(engine, shared, tmp_path):
    shutil.copytree(shared / "pictures", tmp_path / "pictures")
    unseen, unread = session(
        tmp_path,
        ["ingest", str(shared / "pictures"), "examples", *SIZE, *engine.options],
        ["ingest", str(tmp_path / "pictures"), str(shared / "other"), *SIZE, *engine.options],
    )
    assert unseen.code == unread.code == 3
    assert "workers wrote 3 files of examples that this machine does not see in" in unseen.err
    assert "share the folder under the same path" in unseen.err
    assert not (tmp_path / "examples").exists()
    # The error that the worker raised, and not the stack traces around it.
    assert "No such file or directory: " in unread.err
    assert str(tmp_path / "pictures") in unread.err.replace("\n", "")
    assert "All workers must see the images" in unread.err
    assert not (shared / "other").exists()
    for command in (unseen, unread):
        assert "Traceback" not in command.err + command.out


def test_a_job_server_that_does_not_answer_is_named_at_once(tmp_path):
    picture = tmp_path / "pictures" / "unlabelled" / "1.png"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(picture)
    nobody = "localhost:9"
    address = ["--set", "beam.runner=PortableRunner", "--set", f"beam.job_endpoint={nobody}"]
    (ingested,) = session(tmp_path, ["ingest", "pictures", "examples", *SIZE, *address])
    assert ingested.code == 1
    assert f"No job server of Beam answers at {nobody} (connection refused): start it" in ingested.err
    assert "Traceback" not in ingested.err + ingested.out


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({}, SettingsError, "beam.job_endpoint is missing"),
        ({"job_endpoint": "flink"}, SettingsError, "beam.job_endpoint takes HOST:PORT, .* not 'flink'"),
        ({"job_endpoint": "flink:http"}, SettingsError, "beam.job_endpoint takes HOST:PORT, .* not 'flink:http'"),
        (
            {"job_endpoint": "nowhere.invalid:8099"},
            EngineError,
            r"No job server of Beam answers at nowhere.invalid:8099",
        ),
        (
            {"job_endpoint": "embed", "environment_type": "EXTERNAL", "environment_config": "localhost:1"},
            EngineError,
            r"No worker pool of Beam answers at localhost:1 \(connection refused\)",
        ),
        (
            {"job_endpoint": "embed", "environment_type": "EXTERNAL", "environment_config": "pool"},
            SettingsError,
            "beam.environment_config takes HOST:PORT, .* not 'pool'",
        ),
    ],
)
def test_addresses_that_lead_nowhere_are_named(options, error, sentence):
    settings = config.load(overrides=[f"beam={json.dumps({'runner': 'PortableRunner'} | options)}"])
    with pytest.raises(error, match=sentence), pipeline(settings) as root:
        _ = root | beam.Create([1])


@pytest.mark.long
def test_workers_that_do_not_start_are_given_up(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "LONGEST_START_SECONDS", 2)
    with (
        beam_engine.running_job_server(tmp_path / "server") as job_server,
        # A program that ends at once, as one does that cannot import its modules.
        beam_engine.running_pool(tmp_path / "pool", shared, program=shutil.which("false")) as pool,
    ):
        settings = settings_of(Engine(job_server, pool))
        with pytest.raises(EngineError, match="No worker of Beam started within 2 s"), pipeline(settings) as root:
            _ = root | beam.Create([1])


@pytest.mark.long
def test_an_engine_that_is_ready_is_not_asked_again_and_keeps_its_results(engine, monkeypatch):
    settings = settings_of(engine)
    with pipeline(settings) as root:
        _ = root | beam.Create([1, 2]) | beam.Map(abs)
    assert root.result.state == "DONE"
    monkeypatch.setattr(runner, "_require_worker", lambda options: pytest.fail("asked again"))
    with pytest.raises(DataError, match="A Beam worker failed: number 3 is odd") as caught, pipeline(settings) as root:
        _ = root | beam.Create([2, 3]) | beam.Map(_refuse_odd)
    assert failures.as_user_error(caught.value) is caught.value


def _refuse_odd(number: int) -> None:
    from trainer.errors import DataError

    if number % 2:
        raise DataError(f"number {number} is odd.")


def pipeline(settings: config.Settings) -> beam.Pipeline:
    return beam.Pipeline(options=PipelineOptions(settings.beam_pipeline_args()))


@pytest.mark.long
def test_an_evaluation_keeps_what_its_workers_write_beside_its_results(engine, shared, tmp_path):
    releases.export_model(shared / "encoder" / "model", seed=1)
    evaluate = ["evaluate", str(shared / "encoder"), "--data", str(shared / "pictures"), *engine.options]
    quick = ("--set", "evaluator.label_shares=[]", "--set", "evaluator.neighbours=[5]")
    # From pictures, the missing examples would be noticed first.
    (ingested,) = session(shared, ["ingest", "pictures", "to-evaluate", *SIZE])
    on_examples = ["evaluate", str(shared / "encoder"), "--data", str(shared / "to-evaluate"), *engine.options]
    seen, unseen = session(
        tmp_path,
        [*evaluate, *quick, "--output", str(shared / "results")],
        [*on_examples, *quick, "--output", str(tmp_path / "results")],
    )
    assert (ingested.code, seen.code) == (0, 4), ingested.err + seen.err
    assert "Linear probe: " in seen.out
    assert unseen.code == 3
    # The untrained encoder, which this machine wrote for the workers.
    assert "SavedModel file does not exist" in unseen.err
    assert "All workers must see the images and the folder of the results" in unseen.err
    assert not [path for folder in (shared, tmp_path) for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.long
def test_workers_embed_as_this_process_does(engine, shared, tmp_path):
    releases.export_model(shared / "embedder", seed=1)
    command = ["embed", str(shared / "pictures"), "--model", str(shared / "embedder"), "-o"]
    there, here, unseen = session(
        tmp_path,
        [*command, str(shared / "there.parquet"), *engine.options],
        [*command, str(shared / "here.parquet")],
        [*command, "unseen.parquet", *engine.options],
    )
    assert (there.code, here.code) == (0, 0), there.err + here.err
    assert (shared / "there.parquet").read_bytes() == (shared / "here.parquet").read_bytes()
    assert unseen.code == 3
    assert "Beam's workers wrote 3 parts that this machine does not see in" in unseen.err
    assert not [path for folder in (shared, tmp_path) for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.long
def test_the_whole_pipeline_runs_as_it_does_in_this_process(engine, shared):
    run = ["run", *TINY, "--data", "pictures", "--json"]
    there = [*run, "--workdir", "on-engine", *engine.options]
    on_engine, here = session(shared, there, [*run, "--workdir", "here"])
    assert on_engine.code in (0, 4), on_engine.err
    assert list(on_engine.states) == COMPONENTS
    assert set(on_engine.states.values()) == {"done"}
    assert on_engine.json["data"] == here.json["data"]
    assert on_engine.json["evaluation"]["untrained_accuracy"] == here.json["evaluation"]["untrained_accuracy"]
    workdirs = (shared / "on-engine", shared / "here")
    first, second = (next(workdir.glob("artifacts/ImageExampleGen/examples/*")) for workdir in workdirs)
    assert contents(first) == contents(second)
    (evaluation,) = workdirs[0].glob("artifacts/LinearProbeEvaluator/evaluation/*")
    assert not (evaluation / "partial").exists()
