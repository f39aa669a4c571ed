"""What a cached result depends on: the content of code, weights and encoders, and nothing else."""

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest

from components.data_gate import executor as data_gate
from components.image_example_gen import executor as image_example_gen
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

    def file_of(module: str) -> Path | None:
        found = real(module)
        return tmp_path / found.relative_to(root) if found else None

    real = code_fingerprint._file_of.__wrapped__
    monkeypatch.setattr(code_fingerprint, "_file_of", file_of)
    monkeypatch.setattr(code_fingerprint, "_imports", code_fingerprint._imports.__wrapped__)
    return tmp_path


def test_an_upgrade_that_leaves_ingest_alone_leaves_its_result_valid(copied):
    before = {module: code_fingerprint.fingerprint([module]) for module in (INGEST, TRAINER, data_gate.__name__)}
    assert code_fingerprint.fingerprint([INGEST]) == before[INGEST]

    def changed(file: str) -> set[str]:
        path = copied / file
        whole = path.read_text()
        path.write_text(whole + "\n# changed\n")
        found = {module for module, hashed in before.items() if code_fingerprint.fingerprint([module]) != hashed}
        path.write_text(whole)
        return found

    assert changed("trainer/losses.py") == {TRAINER}
    assert changed("trainer/encoders/resnet.py") == {TRAINER}
    assert changed("components/image_example_gen/transforms.py") == {INGEST}
    assert changed("components/image_example_gen/sources/stl10_archive.py") == {INGEST}
    # Shared by both.
    assert changed("trainer/examples.py") >= {INGEST, TRAINER}
    assert changed("pipeline/cli.py") == set()


def test_templates_belong_to_the_code_that_uses_them(copied):
    evaluator = "components.linear_probe_evaluator.executor"
    before = code_fingerprint.fingerprint([evaluator])
    (copied / "components" / "linear_probe_evaluator" / "page" / "report.html.j2").write_text("another page")
    assert code_fingerprint.fingerprint([evaluator]) != before


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


def of_training(**settings) -> dict[str, str]:
    chosen = TrainerSettings.model_validate(settings)
    return cache._of_training({"custom_config": json.dumps({run_fn.SETTINGS: chosen.model_dump_json()})})


def test_the_code_of_a_users_encoder_counts(own_encoder):
    assert [point.name for point in metadata.entry_points(group="nnclr.encoders")] == ["tiny"]
    before = of_training(encoder={"name": "tiny"})
    assert of_training(encoder={"name": "tiny"}) == before
    (own_encoder / "tiny.py").write_text("def build(settings, size, dtype): return 1\n")
    assert of_training(encoder={"name": "tiny"}) != before
    assert of_training()["code of the encoder"] == ""


def test_the_weights_that_a_warm_start_takes_count(tmp_path):
    from tests.components import releases

    start = tmp_path / "start"
    releases.export_model(start, 1)
    first = of_training(warm_start=str(start))
    assert of_training(warm_start=str(start)) == first
    releases.export_model(start, 2)
    assert of_training(warm_start=str(start)) != first


def test_the_working_directorys_place_does_not_count(tmp_path):
    def parts(root: str) -> dict[str, str]:
        class Info:
            id = "p"

        keys = cache._Keys(Path(root), tmp_path / "memory.json")
        parameters = {"source": f"{root}/data", "fingerprint": "f00d", "registry_directory": f"{root}/registry"}
        return keys._parts(Info(), 'class_path: "components.image_example_gen.executor.Executor"', {}, parameters)

    assert parts("/a") == parts("/elsewhere/b")
    assert "source" not in parts("/a")


def test_what_changed_is_told(tmp_path, caplog):
    import logging

    keys = cache._Keys(tmp_path, tmp_path / "memory.json")
    with caplog.at_level(logging.INFO, "nnclr"):
        keys._explain("Trainer", {"code": "1", "custom_config.settings.epochs": "1"}, True)
        keys._explain("Trainer", {"code": "1", "custom_config.settings.epochs": "2"}, True)
        keys._explain("Trainer", {"code": "1", "custom_config.settings.epochs": "2"}, True)
        keys._explain("Trainer", {"code": "1", "custom_config.settings.epochs": "2"}, False)
    assert [record.message for record in caplog.records] == [
        "Trainer: no earlier result is known.",
        "Trainer: changed since its last run: custom_config.settings.epochs.",
        "Trainer: unchanged since its last run, whose result is used again if its files still exist.",
        "Trainer: its cache is off.",
    ]
