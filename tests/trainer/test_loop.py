"""Training as a whole: exact on any number of devices, repeatable, and blind to labels."""

import csv
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.conftest import write_relabelled
from trainer import loop
from trainer.config import Augmentation, TrainerSettings
from trainer.errors import DataError, SettingsError

SETTINGS = TrainerSettings.model_validate(
    {
        "encoder": {"width": 8},
        "projection": [16, 12],
        "support_set_size": 50,
        "batch_size": 16,
        "epochs": 2,
        "augmentation": {"contrast": 0.5, "saturation": 0.5, "hue": 0.2, "grey": 0.2},
        "online_probe": {"batch_size": 8},
        "precision": "float32",
        "shuffle_buffer": 32,
    }
)


_key_bases = itertools.count(start=0, step=1_000_000)


def mirrored(devices: list[str]) -> tf.distribute.MirroredStrategy:
    """Strategies of different width in one process need keys of their own for their collectives."""
    tf.distribute.MirroredStrategy._collective_key_base = next(_key_bases)
    return tf.distribute.MirroredStrategy(devices)


def train(files, devices, **changes):
    strategy = mirrored(devices)
    settings = SETTINGS.model_copy(update=changes)
    return loop.train(settings, files["unlabelled"], files["train"], strategy=strategy)


def state(model) -> dict[str, np.ndarray]:
    """Everything that training changes."""
    weights = {
        f"{part.name}/{v.path}": v.numpy()
        for part in (model.encoder, model.projection, model.probe, model.optimizer, model.probe_optimizer)
        for v in (part.variables if hasattr(part, "variables") else part.weights)
    }
    return weights | {
        "support_set/members": model.support_set.members.numpy(),
        "support_set/pointer": model.support_set.pointer.numpy(),
    }


@pytest.fixture(scope="module")
def on_one_device(tfrecords, logical_cpus):
    return train(tfrecords, logical_cpus[:1])


@pytest.mark.parametrize("replicas", [2, 4])
def test_same_global_batch_on_more_devices_gives_same_losses_weights_and_support_set(
    on_one_device, tfrecords, logical_cpus, replicas
):
    expected_model, expected = on_one_device
    model, result = train(tfrecords, logical_cpus[:replicas])
    assert result.steps == expected.steps == 12
    for row, expected_row in zip(result.history, expected.history, strict=True):
        for name in ("c_loss", "c_acc", "r_acc", "p_loss", "p_acc", "val_p_loss", "val_p_acc"):
            assert row[name] == pytest.approx(expected_row[name], abs=1e-5), name
    one, many = state(expected_model), state(model)
    assert len(one) == len(many)
    for (name, a), b in zip(one.items(), many.values(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5, err_msg=name)


def test_support_set_is_the_same_on_every_replica(tfrecords, logical_cpus):
    model, _ = train(tfrecords, logical_cpus, epochs=1)
    copies = [copy.numpy() for copy in model.support_set.members.values]
    assert len(copies) == 4
    for copy in copies[1:]:
        np.testing.assert_array_equal(copy, copies[0])


def test_support_set_holds_the_first_views_only(on_one_device):
    model, result = on_one_device
    # 12 batches of 16 through 50 places, one view each.
    assert model.support_set.pointer.numpy() == 12 * 16 % 50
    assert result.steps == 12


def test_same_seed_repeats_a_run_to_the_last_bit_and_another_seed_does_not(on_one_device, tfrecords, logical_cpus):
    first = state(on_one_device[0])
    again, _ = train(tfrecords, logical_cpus[:1])
    other, _ = train(tfrecords, logical_cpus[:1], seed=1)
    for (name, a), b in zip(first.items(), state(again).values(), strict=True):
        np.testing.assert_array_equal(b, a, err_msg=name)
    assert not np.array_equal(other.encoder.get_weights()[0], again.encoder.get_weights()[0])


def test_labels_leave_no_trace_in_the_encoder(on_one_device, tfrecords, logical_cpus, tmp_path):
    zeroed = write_relabelled(tfrecords["train"], tmp_path, lambda label: 0 if label < 3 else 3)
    model, _ = train(tfrecords | {"train": zeroed}, logical_cpus[:1])
    for a, b in zip(on_one_device[0].encoder.get_weights(), model.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(on_one_device[0].probe.get_weights()[0], model.probe.get_weights()[0])


def test_training_learns(tfrecords, logical_cpus):
    mild = Augmentation(crop_scale=(0.8, 1.0), flip=False, brightness=0.1)
    _, result = train(tfrecords, logical_cpus[:1], epochs=15, learning_rate=3e-3, augmentation=mild)
    first, last = result.history[0], result.history[-1]
    # Chance is log(16) = 2.77 and 1/16.
    assert last["c_loss"] < first["c_loss"] - 0.5
    assert last["c_acc"] > 0.3


def test_without_labels_there_is_no_probe_and_the_rest_goes_on(tfrecords, logical_cpus, tmp_path):
    empty = str(tmp_path / "empty")
    with tf.io.TFRecordWriter(empty):
        pass
    model, result = train(tfrecords | {"train": [empty]}, logical_cpus[:1], epochs=1)
    assert model.probe is None
    assert "val_p_acc" not in result.history[0]


def test_history_and_tensorboard_are_written(tfrecords, logical_cpus, tmp_path):
    strategy = mirrored(logical_cpus[:1])
    settings = SETTINGS.model_copy(update={"epochs": 2})
    _, result = loop.train(settings, tfrecords["unlabelled"], tfrecords["train"], str(tmp_path), strategy)
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["c_loss"]) for row in rows] == [row["c_loss"] for row in result.history]
    (events,) = tmp_path.glob("events.out.tfevents.*")
    tags = {
        value.tag
        for record in tf.data.TFRecordDataset(str(events)).as_numpy_iterator()
        for value in tf.compat.v1.Event.FromString(record).summary.value
    }
    assert {"c_loss", "c_acc", "r_acc", "p_loss", "p_acc", "val_p_acc"} <= tags


def test_batch_that_replicas_cannot_share_is_refused_with_a_way_out(tfrecords, logical_cpus):
    with pytest.raises(SettingsError, match=r"online_probe\.batch_size is 9, which 4 devices.* for instance 12"):
        train(tfrecords, logical_cpus, online_probe=SETTINGS.online_probe.model_copy(update={"batch_size": 9}))


def test_fewer_images_than_a_batch_are_refused(tfrecords, logical_cpus):
    with pytest.raises(DataError, match=r"`unlabelled` has 96 images, fewer than one batch of 128.* at most 96"):
        train(tfrecords, logical_cpus[:1], batch_size=128)
