"""What TFX's Trainer calls: training from its arguments, from the champion if asked, and what is left."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

from tests.trainer.conftest import mirrored
from trainer import devices, export, run_fn
from trainer.config import TrainerSettings
from trainer.errors import SettingsError
from trainer.results import FIGURES_FILE, TrainingFigures


def arguments(files, directory: Path, base_model: str | None = None, **changes) -> SimpleNamespace:
    settings = TrainerSettings.model_validate(
        {"encoder": {"width": 8}, "projection": {"units": [8]}, "batch_size": 16, "duration": "2 steps"}
        | {"support_set_size": 20, "online_probe": {"batch_size": 8}, "precision": "float32"}
        | changes
    )
    return SimpleNamespace(
        train_files=[f"{Path(files['unlabelled'][0]).parent}/unlabelled*"],
        eval_files=[f"{Path(files['train'][0]).parent}/train*"],
        model_run_dir=str(directory / "run"),
        serving_model_dir=str(directory / "model"),
        base_model=base_model,
        custom_config={run_fn.SETTINGS: settings.model_dump_json(), run_fn.CHECKPOINTS: str(directory / "checkpoints")},
    )


def run(fn_args: SimpleNamespace) -> None:
    """Runs on one of the logical devices that the tests' processes have, because the graph is built for each."""
    device = tf.config.list_logical_devices("CPU")[0].name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "default_strategy", lambda *_: mirrored([device]))
        run_fn.run_fn(fn_args)


def first_weights(directory: Path):
    return tf.train.load_variable(f"{directory}/model/variables/variables", _kernel(directory))


def _kernel(directory: Path) -> str:
    names = [name for name, _ in tf.train.list_variables(f"{directory}/model/variables/variables")]
    return next(name for name in sorted(names) if "kernel" in name)


@pytest.fixture(scope="module")
def champion(tfrecords, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("champion")
    run(arguments(tfrecords, directory, seed=7))
    return directory


def test_leaves_the_encoder_and_its_figures_and_no_checkpoints(champion):
    figures = TrainingFigures.model_validate_json((champion / "run" / FIGURES_FILE).read_text())
    assert figures.steps == 2
    assert figures.final_loss > 0
    assert export.describe(str(champion / "model")).training == figures
    assert (champion / "run" / "history.csv").exists()
    assert not list((champion / "checkpoints").rglob("*.npz"))


def test_starts_from_the_champion(tfrecords, champion, tmp_path):
    still = {"optimizer": {"name": "sgd", "learning_rate": 1e-12}, "warm_start": "champion"}
    run(arguments(tfrecords, tmp_path, str(champion / "model"), **still))
    assert first_weights(tmp_path) == pytest.approx(first_weights(champion), abs=1e-6)


@pytest.mark.parametrize("base_model", [None, pytest.param("nowhere", marks=pytest.mark.long)])
def test_without_a_champion_it_starts_from_scratch(tfrecords, champion, tmp_path, base_model):
    path = base_model and str(tmp_path / base_model)
    run(arguments(tfrecords, tmp_path, path, warm_start="champion", seed=7))
    assert first_weights(tmp_path) == pytest.approx(first_weights(champion), abs=1e-6)


@pytest.mark.parametrize("kept", [{"frozen": 0.5}, {"batch_norm_statistics": "pretrained"}])
def test_without_a_champion_random_weights_are_not_kept(tfrecords, tmp_path, kept):
    with pytest.raises(SettingsError, match=r"no champion to start from yet, and .* keep random weights"):
        run(arguments(tfrecords, tmp_path, None, warm_start="champion", encoder={"width": 8} | kept))


def test_a_champion_of_another_architecture_is_refused(tfrecords, champion, tmp_path):
    wider = {"warm_start": "champion", "encoder": {"width": 9}}
    with pytest.raises(SettingsError, match=r"width 8, .* this training needs .*width 9"):
        run(arguments(tfrecords, tmp_path, str(champion / "model"), **wider))
