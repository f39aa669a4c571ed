"""What a cached result depends on: the content of code, weights and encoders, and nothing else."""

import json
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from ml_metadata.proto import metadata_store_pb2

from components.data_gate import executor as data_gate
from components.image_example_gen import executor as image_example_gen
from components.linear_probe_evaluator import executor as evaluator_executor
from components.linear_probe_evaluator.config import EvaluatorSettings
from pipeline import installation
from pipeline.local import cache, code_fingerprint
from trainer import run_fn
from trainer.config import TrainerSettings

INGEST, TRAINER = image_example_gen.__name__, run_fn.__name__


@pytest.fixture
def copied(tmp_path, monkeypatch) -> Path:
    """A copy of the packages, which the hashes are taken of."""
    import shutil

    root = Path(run_fn.__file__).parents[1]
    for package in installation.PACKAGES:
        shutil.copytree(root / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))

    def source_file(module: str) -> Path | None:
        original = real(module)
        return tmp_path / original.relative_to(root) if original else None

    real = code_fingerprint._source_file.__wrapped__
    monkeypatch.setattr(code_fingerprint, "_source_file", source_file)
    monkeypatch.setattr(code_fingerprint, "_imports", code_fingerprint._imports.__wrapped__)
    return tmp_path


def test_an_upgrade_that_leaves_ingest_alone_leaves_its_result_valid(copied):
    before = {
        module: code_fingerprint.modules_fingerprint([module]) for module in (INGEST, TRAINER, data_gate.__name__)
    }
    assert code_fingerprint.modules_fingerprint([INGEST]) == before[INGEST]

    def changed(file: str) -> set[str]:
        path = copied / file
        whole = path.read_text()
        path.write_text(whole + "\n# changed\n")
        modules = {name for name, hashed in before.items() if code_fingerprint.modules_fingerprint([name]) != hashed}
        path.write_text(whole)
        return modules

    assert changed("trainer/losses.py") == {TRAINER}
    assert changed("trainer/encoders/cloning.py") == {TRAINER}
    assert changed("components/image_example_gen/transforms.py") == {INGEST}
    assert changed("components/image_example_gen/sources/stl10_archive.py") == {INGEST}
    # Shared by both.
    assert changed("trainer/examples.py") >= {INGEST, TRAINER}
    assert changed("pipeline/cli.py") == set()


def test_the_code_of_a_built_in_encoder_counts_for_its_trainings_only(copied):
    names = ("convnet", "resnet18", "resnet50")
    before = {name: training_parts(encoder={"name": name})["code of the encoder"] for name in names}
    (copied / "trainer" / "encoders" / "resnet.py").write_text("# changed\n")
    after = {name: training_parts(encoder={"name": name})["code of the encoder"] for name in names}
    assert [name for name in names if before[name] != after[name]] == ["resnet18", "resnet50"]


def test_the_path_of_the_working_directory_does_not_matter():
    def key(root: str) -> dict[str, str]:
        uri = f"{root}/artifacts/ImageExampleGen/examples/1"
        artifact = SimpleNamespace(mlmd_artifact=metadata_store_pb2.Artifact(id=3, uri=uri))
        parameters = {"settings": json.dumps({"folder": f"{root}/x"}), "registry_directory": f"{root}/registry"}
        keys = cache._CacheKeys(Path(root), Path("keys.json"))
        return keys._parts(SimpleNamespace(id="pipeline"), 'class_path: "x.Executor"', {"in": [artifact]}, parameters)

    expected = key("/data/runs")
    for odd in ("/data/Ärger & Söhne's (run) +1; ~x=y, z", '/data/"quoted"', "/data/\\", "/data/図"):
        assert key(odd) == expected, odd


def test_templates_belong_to_the_code_that_uses_them(copied):
    evaluator = "components.linear_probe_evaluator.executor"
    before = code_fingerprint.modules_fingerprint([evaluator])
    (copied / "components" / "linear_probe_evaluator" / "page" / "report.html.j2").write_text("another page")
    assert code_fingerprint.modules_fingerprint([evaluator]) != before


@pytest.fixture
def own_encoder(tmp_path, monkeypatch) -> Path:
    """A user's installed package with an encoder."""
    package = tmp_path / "my_networks"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tiny.py").write_text("def build(settings, size, dtype): ...\n")
    about = tmp_path / "my_networks-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-networks\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[nnclr.encoders]\ntiny = my_networks.tiny:build\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in [name for name in sys.modules if name.startswith("my_networks")]:
        del sys.modules[name]


def training_parts(**settings) -> dict[str, str]:
    chosen = TrainerSettings.model_validate(settings)
    return cache._training_parts({"custom_config": json.dumps({run_fn.SETTINGS: chosen.model_dump_json()})})


def test_the_code_of_a_users_encoder_counts(own_encoder):
    assert [point.name for point in metadata.entry_points(group="nnclr.encoders")] == ["tiny"]
    before = training_parts(encoder={"name": "tiny"})
    assert training_parts(encoder={"name": "tiny"}) == before
    (own_encoder / "tiny.py").write_text("def build(settings, size, dtype): return 1\n")
    assert training_parts(encoder={"name": "tiny"}) != before
    assert training_parts(encoder={"name": "keras:MobileNetV2"})["code of the encoder"] == ""


def test_the_code_of_a_users_source_counts(own_encoder):
    about = own_encoder.parent / "my_networks-1.0.dist-info" / "entry_points.txt"
    assert code_fingerprint.sources_fingerprint() == ""
    about.write_text("[nnclr.sources]\ntiny = my_networks.tiny:Source\n")
    before = code_fingerprint.sources_fingerprint()
    (own_encoder / "tiny.py").write_text("class Source: ...\n")
    assert code_fingerprint.sources_fingerprint() != before


def test_the_weights_that_a_warm_start_takes_count(tmp_path):
    from tests.components import releases

    start = tmp_path / "start"
    releases.export_model(start, 1)
    first = training_parts(warm_start=str(start))
    assert training_parts(warm_start=str(start)) == first
    releases.export_model(start, 2)
    assert training_parts(warm_start=str(start)) != first


def test_the_files_that_an_encoder_starts_from_count(tmp_path):
    weights = tmp_path / "start.weights.h5"
    encoder = {"name": "resnet18", "weights": str(weights)}
    assert "start.weights.h5" in training_parts(encoder=encoder)["files of the encoder"]
    weights.write_bytes(b"1")
    first = training_parts(encoder=encoder)
    assert training_parts(encoder=encoder) == first
    weights.write_bytes(b"2")
    assert training_parts(encoder=encoder) != first


def test_the_files_of_a_reference_count(tmp_path):
    weights = tmp_path / "weights.h5"
    settings = EvaluatorSettings.model_validate(
        {"references": {"pretrained": [{"network": "MobileNetV2", "weights": str(weights)}]}}
    )

    def parts(content: bytes) -> dict[str, str]:
        weights.write_bytes(content)
        return cache._reference_parts({evaluator_executor.SETTINGS: settings.model_dump_json()})

    first = parts(b"1")
    assert parts(b"1") == first != parts(b"2")
    weights.unlink()
    # The evaluator reports that the file is missing.
    assert (
        "weights.h5"
        in cache._reference_parts({evaluator_executor.SETTINGS: settings.model_dump_json()})["files of MobileNetV2"]
    )


def test_the_working_directorys_place_does_not_count(tmp_path):
    def parts(root: str) -> dict[str, str]:
        class Info:
            id = "p"

        keys = cache._CacheKeys(Path(root), tmp_path / "memory.json")
        parameters = {"source": f"{root}/data", "fingerprint": "f00d", "registry_directory": f"{root}/registry"}
        return keys._parts(Info(), 'class_path: "components.image_example_gen.executor.Executor"', {}, parameters)

    assert parts("/a") == parts("/elsewhere/b")
    assert "source" not in parts("/a")


def test_what_changed_is_told(tmp_path, caplog):
    import logging

    keys = cache._CacheKeys(tmp_path, tmp_path / "memory.json")
    with caplog.at_level(logging.INFO, "nnclr"):
        keys._log_changes("Trainer", {"code": "1", "custom_config.settings.epochs": "1"}, True)
        keys._log_changes("Trainer", {"code": "1", "custom_config.settings.epochs": "2"}, True)
        keys._log_changes("Trainer", {"code": "1", "custom_config.settings.epochs": "2"}, True)
        keys._log_changes("Trainer", {"code": "1", "custom_config.settings.epochs": "2"}, False)
    assert [record.message for record in caplog.records] == [
        "Trainer: no earlier result is known.",
        "Trainer: changed since the last run: custom_config.settings.epochs.",
        "Trainer: unchanged since the last run; its result is reused if the files still exist.",
        "Trainer: the cache is disabled.",
    ]
