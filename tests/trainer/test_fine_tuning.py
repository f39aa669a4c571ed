"""Training on labelled images: from scratch, with and without held-out images, and within its time."""

import keras
import numpy as np
import pytest

from trainer import export, fine_tuning
from trainer.config import TrainerSettings
from trainer.data import LabelledPixels
from trainer.encoders import build_encoder

SETTINGS = TrainerSettings.model_validate({"encoder": {"width": 8, "pooling": "average"}})


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    directory = str(tmp_path_factory.mktemp("model") / "model")
    keras.utils.set_random_seed(1)
    export.export_encoder(build_encoder(SETTINGS.encoder, (32, 32)), SETTINGS, (32, 32), directory)
    return directory


def squares(count: int, seed: int) -> LabelledPixels:
    """Dark and bright noise; the label says which."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    noise = rng.integers(0, 60, (count, 32, 32, 3))
    return LabelledPixels((noise + 150 * labels[:, None, None, None]).astype(np.uint8), labels)


def trained(model: str, train: LabelledPixels, **changes) -> fine_tuning.FromScratch:
    given = {"classes": 2, "seconds": None, "batch_size": 16, "learning_rate": 3e-3, "patience": 3, "seed": 0}
    return fine_tuning.from_scratch(model, train, squares(40, 9).pixels, **given | changes)


@pytest.mark.parametrize("count", [40, pytest.param(4, marks=pytest.mark.long)])
def test_training_from_scratch_learns_with_and_without_held_out_images(model, count):
    found = trained(model, squares(count, 1))
    assert (found.predicted == squares(40, 9).labels).mean() > 0.9
    again = trained(model, squares(count, 1))
    np.testing.assert_array_equal(found.predicted, again.predicted)
    assert found.steps == again.steps


@pytest.mark.long
def test_it_ends_with_its_time_and_with_its_patience(model):
    rng = np.random.default_rng(0)
    noise = LabelledPixels(squares(40, 1).pixels, rng.integers(0, 2, 40))
    short = trained(model, noise, seconds=0.5, patience=10_000)
    assert 0.5 <= short.seconds < 3
    impatient = trained(model, noise, patience=1)
    assert impatient.steps < trained(model, noise, patience=5).steps


def test_a_fifth_of_each_class_is_held_out_if_each_has_five_images():
    images = LabelledPixels(np.arange(33)[:, None], np.repeat([0, 1, 2], [20, 8, 5]))
    fitted, held_out = fine_tuning._divided(images, 0)
    assert np.bincount(held_out.labels).tolist() == [4, 2, 1]
    assert sorted([*fitted.pixels[:, 0], *held_out.pixels[:, 0]]) == list(range(33))
    few = LabelledPixels(images.pixels[:32], images.labels[:32])
    assert [len(part.labels) for part in fine_tuning._divided(few, 0)] == [32, 0]


def test_fine_tuning_starts_from_the_encoder_and_leaves_it_as_it_is(model):
    before = export.fingerprint(model)
    given = {"classes": 2, "epochs": 10, "batch_size": 8, "learning_rate": 3e-3, "seed": 0}
    assert fine_tuning.accuracy(model, squares(40, 1), squares(40, 9), **given) > 0.9
    assert export.fingerprint(model) == before


@pytest.mark.parametrize("statistics", ["auto", "batch"])
def test_fine_tuning_keeps_the_statistics_of_a_pretrained_start_as_its_training_did(tmp_path, monkeypatch, statistics):
    architecture = {"width": 8, "pooling": "average", "batch_norm": True}
    start = {"weights": "start.weights.h5", "batch_norm_statistics": statistics}
    settings = TrainerSettings.model_validate({"encoder": architecture | start})
    keras.utils.set_random_seed(1)
    built = build_encoder(settings.encoder.architecture, (32, 32))
    export.export_encoder(built, settings, (32, 32), str(tmp_path / "model"))
    encoder = export.load_encoder(str(tmp_path / "model"))
    monkeypatch.setattr(export, "load_encoder", lambda directory: encoder)
    given = {"classes": 2, "epochs": 1, "batch_size": 8, "learning_rate": 3e-3, "seed": 0}
    fine_tuning.accuracy(str(tmp_path / "model"), squares(40, 1), squares(40, 9), **given)
    before, after = (network.get_layer("norm_1") for network in (built, encoder))
    assert not np.array_equal(before.gamma, after.gamma)
    assert np.array_equal(before.moving_mean, after.moving_mean) == (statistics == "auto")
