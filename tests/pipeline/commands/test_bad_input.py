"""A table of what users give by mistake: each ends in one sentence that names it, and in its documented exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from components.linear_probe_evaluator.config import REFERENCES
from components.run_settings import RunSettings
from tests import interpreters
from tests.pipeline.commands.sessions import session
from tests.pipeline.local.test_run import TINY
from trainer.errors import EXIT_CODES

# Command, exit code, and what the last words must name. `file` is a file, `folder` an empty folder.
TABLE = [
    # Settings
    (["run"], 2, "--data SOURCE"),
    (["run", "--preset", "nope"], 2, "nope"),
    (["run", "--set", "trainer.epoch=1"], 2, "trainer.epochs"),
    (["run", "--set", "trainer.epochs"], 2, "trainer.epochs"),
    (["run", "--set", "trainer.epochs=[1"], 2, "trainer.epochs=[1"),
    (["run", "--set", "trainer.devices=tpu"], 2, "trainer.devices"),
    (["run", "--set", "trainer={epochs: 1, epochs: 2}"], 2, "epochs is set twice"),
    (["run", "--config", "nope.yaml"], 2, "nope.yaml"),
    (["run", "--config", "folder"], 2, "folder"),
    (["run", "--config", "doubled.yaml"], 2, "epochs is set twice"),
    (["run", "--config", "list.yaml"], 2, "list.yaml"),
    (["run", "--config", "binary.yaml"], 2, "binary.yaml"),
    (["run", "--beam", "runner"], 2, "--beam"),
    (["run", "--set", "registry.alias=latest"], 2, "latest"),
    (["fly"], 2, "fly"),
    # Working directories
    (["run", *TINY, "--workdir", "file"], 2, "file"),
    (["run", *TINY, "--workdir", "file/below"], 2, "file/below"),
    (["run", *TINY, "--workdir", "[photos]"], 2, "[photos]"),
    (["models", "list", "--workdir", "a?b"], 2, "a?b"),
    (["models", "list", "--workdir", "~nobody-of-this-name/w"], 2, "~nobody-of-this-name"),
    (["prune", "--workdir", "nowhere"], 2, "nowhere"),
    (["prune", "--workdir", "folder", "--older-than", "800000"], 2, "--older-than"),
    (["prune", "--workdir", "damaged"], 1, "damaged/metadata.sqlite"),
    (["schedule", "status", "--workdir", "folder"], 2, "schedule.json"),
    (["schedule", "simulate", "--workdir", "file"], 1, "file"),
    # Sources of images
    (["run", *TINY, "--data", "nowhere"], 3, "nowhere"),
    (["run", *TINY, "--data", "file"], 3, "file"),
    (["run", *TINY, "--data", "folder"], 3, "folder"),
    (["run", *TINY, "--data", "file.tar.gz"], 3, "file.tar.gz"),
    (["run", *TINY, "--data", "nowhere.tar.gz"], 3, "nowhere.tar.gz"),
    (["run", *TINY, "--data", "https://images.test/stl10_binary.tar.gz"], 3, "https://images.test"),
    (["run", *TINY, "--data", "ftp://bucket/images"], 3, "ftp://bucket/images"),
    (["ingest", "folder", "s3://bucket/examples"], 2, "OUT is s3://bucket/examples, but TensorFlow"),
    (["evaluate", "s3://bucket/encoder", "--data", "folder"], 2, "MODEL is s3://bucket/encoder, but TensorFlow"),
    (
        ["run", *TINY, "--set", "trainer.warm_start=s3://bucket/encoder"],
        2,
        "not allowed. TensorFlow has no s3://",
    ),
    (["run", *TINY, "--data", "~nobody-of-this-name/images"], 2, "~nobody-of-this-name"),
    (["run", *TINY, "--data", "{WEEK}"], 2, "{WEEK}"),
    (["run", *TINY, "--data", "folder", "--set", "data.span=2026-01-01"], 2, "2026-01-01"),
    (["data", "stl10", "file"], 1, "file"),
    (["data", "sample", "file"], 2, "file"),
    (["data", "sample", "file/below"], 1, "file/"),
    (["run", *TINY, "--data", ""], 2, "The source of images is missing"),
    (["ingest", "", "out"], 2, "The source of images is missing"),
    # Networks to compare with, before anything is ingested or trained
    (["run", *TINY, "--data", "pictures", "--set", "evaluator.must_beat=[supervised]"], 2, "not one of the references"),
    (["run", *TINY, "--data", "pictures", "--set", f"{REFERENCES}=[{{network: EfficentNetB0}}]"], 2, "EfficientNetB0"),
    (
        ["run", *TINY, "--data", "pictures", "--set", f"{REFERENCES}=[{{network: MobileNetV2, weights: nowhere.h5}}]"],
        2,
        "nowhere.h5 of weights does not exist",
    ),
    (
        ["run", *TINY, "--data", "pictures", "--set", "trainer.encoder={name: ./nowhere.keras, width: null}"],
        2,
        "there is no such file or folder",
    ),
    (["compare", "nowhere", "--data", "pictures"], 2, "MODEL: "),
    (["compare", "keras:MobileNetv2", "--data", "pictures"], 2, "did you mean MobileNetV2"),
    (["compare", "keras:MobileNetV2=nowhere.h5", "--data", "pictures"], 2, "nowhere.h5 of weights does not exist"),
    (["compare", "{netwrk: A}", "--data", "pictures"], 2, "netwrk"),
    (["compare", "s3://bucket/encoder", "--data", "pictures"], 2, "MODEL is s3://bucket/encoder, but TensorFlow"),
    (["compare", "models:/m", "--data", "pictures"], 2, "write models:/NAME/VERSION"),
    (["compare", "models:/m/3", "--data", "pictures", "--workdir", "folder"], 2, "no model registry in folder"),
    (["compare", "m@3", "--data", "pictures", "--workdir", "folder"], 2, "no model registry in folder"),
    # Embeddings
    (["embed", "pictures", "-o", "e.csv"], 2, "e.csv names no format: end it with .parquet"),
    (["embed", "pictures", "-o", "gs://b/e.projector"], 2, "gs://b/e.projector must be a local folder"),
    (["embed", "pictures", "-o", "ftp://b/e.npz"], 2, "ftp://b/e.npz cannot be written: name a local file"),
    (["embed", "nowhere", "-o", "e.npz"], 3, "nowhere does not exist"),
    (["embed", "pictures", "-o", "e.npz", "--model", "MobileNetv2"], 2, "did you mean MobileNetV2"),
    (["embed", "pictures", "-o", "e.npz", "--workdir", "folder"], 2, "no model registry in folder"),
    (["embed", "pictures", "-o", "file/e.npz", "--model", "nowhere"], 2, "file/e.npz cannot be written"),
    (["search", "a.png", "--in", "nowhere.parquet"], 2, "nowhere.parquet does not exist"),
    (["classify"], 2, "Name either images or, with --in, a file of their embeddings"),
    (["classify", "pictures"], 2, "pictures is no single picture: name a file for the predictions"),
    (["classify", "pictures", "-o", "p.txt"], 2, "p.txt does not end in .csv"),
    (["classify", "--in", "nowhere.parquet"], 2, "nowhere.parquet does not exist"),
    (["suggest", "--in", "file", "-n", "3"], 2, "file is not a Parquet file of embeddings"),
    (["duplicates", "--in", "file"], 2, "file is not a Parquet file of embeddings"),
    # Registry
    (["models", "list", "--workdir", "folder"], 2, "folder"),
    (["models", "show", "champion", "--workdir", "registry"], 2, "no models"),
    # Kubeflow and schedules
    (["compile", "-o", "p.yaml"], 2, "--data SOURCE"),
    (["compile", "--data", "gs://b", "-o", "file/p.yaml"], 2, "file"),
    (["submit", "nope.yaml", "--host", "http://127.0.0.1:9"], 2, "nope.yaml"),
    (["submit", "file", "--host", "http://127.0.0.1:9"], 2, "file"),
    (["schedule", "run", "--cron", "often", "--data", "folder"], 2, "often"),
    (["schedule", "run", "--cron", f"{'9' * 5_000} 3 * * 1", "--data", "folder"], 2, "value has 5000 digits."),
    (["schedule", "run", "--cron", "0 3 * * 1", "--data", "folder", "--time-zone", "Mars/Base"], 2, "Mars/Base"),
    (["bench", "--preset", "nope"], 2, "nope"),
    (["presets", "show", "nope"], 2, "nope"),
    (["settings", "trainer.epocs"], 2, "trainer.epochs"),
    (["settings", "--preset", "nope"], 2, "nope"),
    (["settings", "data", "--json-schema"], 2, "--json-schema"),
    (["init", "file"], 2, "file is a file"),
    (["init", "file/below"], 1, "file/below"),
]
# Registries: the value of MLFLOW_TRACKING_URI, and what the sentence must name.
SERVERS = [
    ("./mlruns", "./mlruns"),
    ("file:///mlruns", "file:///mlruns"),
    ("foo://bar", "foo://bar"),
    ("mysql://ada:secret@127.0.0.1/db", "MySQLdb"),
    ("sqlite:///newer.db", "newer.db"),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("bad-input")
    (root / "file").write_text("?")
    (root / "file.tar.gz").write_text("?")
    (root / "folder").mkdir()
    (root / "pictures" / "unlabelled").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(root / "pictures" / "unlabelled" / "one.png")
    (root / "doubled.yaml").write_text("trainer:\n  epochs: 1\n  epochs: 2\n")
    (root / "list.yaml").write_text("- 1\n")
    (root / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (root / "registry" / "registry").mkdir(parents=True)
    (root / "damaged").mkdir()
    (root / "damaged" / "metadata.sqlite").write_bytes(b"not a database" * 100)
    return root


def require_one_sentence(code: int, errors: str, expected: int, named: str) -> None:
    assert code == expected, errors
    assert code in EXIT_CODES
    assert "Traceback" not in errors
    assert named in " ".join(errors.split()), errors


def test_every_command_answers_a_mistake_with_one_sentence_and_its_exit_code(directory):
    finished = session(directory, *(command for command, _, _ in TABLE))
    for one, (command, code, named) in zip(finished, TABLE, strict=True):
        print(command)
        require_one_sentence(one.code, one.err, code, named)
        assert "Traceback" not in one.out


@pytest.mark.parametrize(("uri", "named"), SERVERS)
def test_registries_that_cannot_be_used_are_named_without_their_passwords(uri, named, directory):
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(directory / "newer.db")) as database:
        database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('from-the-future')")
        database.commit()
    (listed,) = session(directory, ["models", "list"], variables={"MLFLOW_TRACKING_URI": uri})
    require_one_sentence(listed.code, listed.err, 2 if named == "MySQLdb" else 1, named)
    assert "secret" not in listed.err


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["nowhere", "out"], 3, "nowhere/Split-unlabelled"),
        (["folder", "out", "--set", "trainer.epoch=1"], 2, "trainer.epochs"),
        (["folder", "out", "--config", "nope.yaml"], 2, "nope.yaml"),
        (["folder", "out", "--set", "trainer.warm_start=champion"], 2, "champion"),
        (["folder"], 2, "OUTPUT"),
    ],
)
def test_the_trainer_alone_does_the_same(arguments, code, named, directory):
    process = interpreters.commands().run("-m", "trainer", *arguments, cwd=directory)
    require_one_sentence(process.returncode, process.stderr, code, named)


@pytest.mark.parametrize(
    ("settings", "code", "named"),
    [
        ({"data": {"source": "https://images.test/a.tar.gz"}}, 3, "https://images.test/a.tar.gz"),
        ({"data": {"source": None}}, 2, "The source of images is missing: set data.source."),
        (
            {
                "data": {"source": "pictures"},
                "evaluator": {"references": {"pretrained": [{"network": "EfficentNetB0"}]}},
            },
            2,
            f"{REFERENCES}: EfficentNetB0: keras.applications has no such network",
        ),
    ],
)
def test_a_pods_entry_point_does_the_same(settings, code, named, directory):
    given = {
        "inputs": {"parameterValues": {}},
        "outputs": {"artifacts": {}, "outputFile": str(directory / "output.json")},
    }
    given["inputs"]["parameterValues"] = {
        **{
            "settings": RunSettings.model_validate(settings).model_dump_json(),
            "registry_directory": "registry of a pod",
            "pipeline_run": "1",
        },
    }
    command = [
        *("-m", "pipeline.kubeflow.entrypoint", "--component", "DataResolver"),
        *("--executor_class_path", "components.data_resolver.executor.Executor"),
        *("--json_serialized_invocation_args", json.dumps(given), "--json_serialized_inputs_spec_args", "{}"),
    ]
    process = interpreters.commands().run(*command, cwd=directory)
    require_one_sentence(process.returncode, process.stderr, code, f"DataResolver failed: {named}")


def test_exit_codes_are_the_same_in_help_and_documents():
    documents = (Path(__file__).parents[3] / "docs" / "results.md").read_text().partition("## Exit codes")[2]
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in documents.splitlines() if "| " in line}
    assert {int(code): meaning for code, meaning in rows.items() if code.isdigit()} == EXIT_CODES
    environment = os.environ | {"COLUMNS": "1000"}
    shown = (
        interpreters.commands().run("-m", "pipeline", "run", "--help", cwd=Path.cwd(), environment=environment).stdout
    )
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in " ".join(shown.split())


@pytest.mark.parametrize(("limits", "code"), [("100, 100", 2), ("100, 4096", 0)], ids=["too few", "permitted"])
def test_a_process_needs_file_handles(directory, limits, code):
    command = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({limits})); from pipeline import cli; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", command, "presets", "list"], check=False, cwd=directory, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    told = "Error: A process may open only 100 files at a time here: allow at least 128 (ulimit -n)."
    assert done.stderr.split() == (told.split() if code else [])


def test_closed_standard_streams_do_not_matter(directory):
    command = f"{sys.executable} -m pipeline presets list >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=directory, check=False).returncode == 0
    command = f"{sys.executable} -m pipeline run --data nowhere <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=directory, check=False, timeout=120).returncode == 3
