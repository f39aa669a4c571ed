"""The momentum encoder gives the keys, follows the trained networks, and is exported if the settings say so."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from tests.trainer.conftest import fresh_collectives, mirrored
from trainer import augmentation, export, loop, outcome, state
from trainer.config import TrainerSettings
from trainer.model import NNCLR, normalised
from trainer.plan import Plan
from trainer.step import TrainingStep

BATCH, SIZE, MOMENTUM, STEP = 8, (32, 32), 0.9, 3
SETTINGS = {
    **{"encoder": {"width": 8, "batch_norm": True, "pooling": "average"}, "support_set_size": 20, "batch_size": BATCH},
    **{"projection": {"units": [12]}, "prediction": {"units": [12]}, "precision": "float32", "shuffle_buffer": 32},
    **{"optimizer": {"name": "sgd", "learning_rate": 0.5}, "momentum_encoder": {"momentum": MOMENTUM}},
}


def settings(**changes) -> TrainerSettings:
    return TrainerSettings.model_validate(SETTINGS | changes)


def weights(network: keras.Model) -> list[np.ndarray]:
    return [variable.numpy() for variable in network.trainable_variables]


@pytest.mark.parametrize("neighbour", ["paper", "straight_through"])
def test_keys_are_the_averages_projections_and_the_average_follows_the_weights(neighbour):
    fresh_collectives()
    keras.utils.set_random_seed(1)
    chosen = settings(neighbour=neighbour)
    model = NNCLR(chosen, SIZE, classes=0, dtype="float32")
    for original, copy in zip([model.encoder, model.projection], model.momentum.networks, strict=True):
        for ours, theirs in zip(original.get_weights(), copy.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        copy.set_weights([value + 0.1 for value in copy.get_weights()])
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (BATCH, *SIZE, 3), np.uint8))
    numbers = augmentation.uniform_numbers(0, 0, tf.constant(STEP, tf.int64), BATCH)
    other = augmentation.uniform_numbers(0, 1, tf.constant(STEP, tf.int64), BATCH)
    both = augmentation.random_views(augmentation.StoredImages.whole(images), [numbers, other], chosen.augmentation)
    twin = NNCLR(chosen, SIZE, classes=0, dtype="float32")
    for network, copy in zip(twin.networks, model.momentum.networks, strict=False):
        network.set_weights(copy.get_weights())
    expected_keys = normalised(twin.project(both)[:BATCH])
    before = [weights(network) for network in model.momentum.networks]

    plan = Plan.of(chosen, 10 * BATCH)
    TrainingStep(model, chosen, plan, SIZE)({"image": images}, None, tf.constant(STEP, tf.int64))

    np.testing.assert_allclose(model.support_set.members[:BATCH], expected_keys, atol=1e-5)
    share = (STEP + 1) / plan.steps
    moved = (1 - MOMENTUM) * (math.cos(math.pi * share) + 1) / 2
    for original, copy, old in zip([model.encoder, model.projection], model.momentum.networks, before, strict=True):
        for now, then, followed in zip(weights(copy), old, weights(original), strict=True):
            np.testing.assert_allclose(now, then + moved * (followed - then), atol=1e-6)
            assert np.abs(followed - then).max() > 0.01


def test_the_average_starts_at_the_warm_start_and_is_what_is_measured_and_exported(tfrecords, logical_cpus, tmp_path):
    fresh_collectives()
    chosen = settings(
        duration="3 steps", momentum_encoder={"momentum": 0.999, "export": "momentum"}, watch={"every": "3 steps"}
    )
    strategy = mirrored(logical_cpus[:1])
    start, _ = loop.train(settings(duration="2 steps", seed=5), loop.Job(tfrecords["unlabelled"], []), strategy)
    export.export_encoder(start.encoder, chosen, SIZE, str(tmp_path / "start"))
    job = loop.Job(tfrecords["unlabelled"], tfrecords["train"], warm_start=str(tmp_path / "start"))
    model, result = loop.train(chosen, job, mirrored(logical_cpus[:1]))
    outcome.write(model, chosen, result, str(tmp_path / "model"), str(tmp_path))

    exported = weights(export.load_encoder(str(tmp_path / "model")))
    for ours, average, started, online in zip(
        exported, weights(model.momentum.encoder), weights(start.encoder), weights(model.encoder), strict=True
    ):
        np.testing.assert_array_equal(ours, average)
        # Three small steps from the start, and far from the trained encoder.
        assert np.abs(average - started).max() < 0.05 * np.abs(online - started).max()
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), np.uint8))
    shown = model.momentum.encoder(tf.cast(pixels, tf.float32) / 255.0, training=False)
    np.testing.assert_allclose(model.infer(pixels)["embedding"], shown, rtol=1e-5, atol=1e-5)
    assert "knn_acc" in result.history[-1]
    saved = state.variables(model)
    assert {name.partition("/")[0] for name in saved} >= {"momentum_encoder", "momentum_projection"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neighbour": "none"}, "set neighbour to paper or straight_through"),
        ({"momentum_encoder": {"export": "momentum"}}, "export is momentum, but momentum is null"),
    ],
)
def test_settings_without_a_meaning_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        settings(**changes)
