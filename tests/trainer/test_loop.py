"""Training as a whole: repeatable, blind to labels, watched, and stopped where it makes no sense."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.conftest import mirrored, write_relabelled
from tests.trainer.variables import train_with_variables
from trainer import loop, observing
from trainer import state as states
from trainer.config import TrainerSettings
from trainer.errors import DataError, SettingsError, TrainingError
from trainer.history import History

SETTINGS = {
    "encoder": {"width": 8},
    "projection": {"units": [16, 12]},
    "support_set_size": 50,
    "batch_size": 16,
    "epochs": 2,
    "augmentation": {"contrast": 0.5, "saturation": 0.5, "hue": 0.2, "grey": 0.2},
    "online_probe": {"batch_size": 8},
    "precision": "float32",
    "shuffle_buffer": 32,
}
NORM = {
    "encoder": {"width": 8, "batch_norm": True, "pooling": "average"},
    "projection": {"units": [16, 12], "batch_norm": True},
    "prediction": {"units": [16, 12], "batch_norm": True},
    "neighbour": "paper",
}


def settings(**changes) -> TrainerSettings:
    return TrainerSettings.model_validate(SETTINGS | changes)


def train(files, devices, run_dir=None, warm_start=None, **changes):
    job = loop.Job(files["unlabelled"], files["train"], run_dir=run_dir, warm_start=warm_start)
    return loop.train(settings(**changes), job, mirrored(devices))


def state(model) -> dict[str, np.ndarray]:
    """The variables of the model; see `train_with_variables` for the optimiser's."""
    return {name: variable.numpy() for name, variable in states.variables(model).items()}


@pytest.fixture(scope="module")
def on_one_device(tfrecords, logical_cpus):
    return train(tfrecords, logical_cpus[:1])


@pytest.mark.long
def test_several_devices_read_the_same_batches_as_one(on_one_device, tfrecords, logical_cpus):
    expected_model, expected = on_one_device
    model, result = train(tfrecords, logical_cpus[:2])
    assert result.steps == expected.steps == 12
    for row, expected_row in zip(result.history, expected.history, strict=True):
        for name in ("c_loss", "p_loss", "val_p_loss", "rank_me", "projection_std"):
            assert row[name] == pytest.approx(expected_row[name], rel=1e-3), name
    one, many = state(expected_model), state(model)
    np.testing.assert_allclose(many["support_set/members"], one["support_set/members"], atol=1e-3)


@pytest.mark.long
def test_support_set_is_the_same_on_every_replica(tfrecords, logical_cpus):
    model, _ = train(tfrecords, logical_cpus[:3], epochs=1, batch_size=15, online_probe={"batch_size": 6})
    copies = [copy.numpy() for copy in model.support_set.members.values]
    assert len(copies) == 3
    for copy in copies[1:]:
        np.testing.assert_array_equal(copy, copies[0])


def test_support_set_holds_the_first_views_only(on_one_device):
    model, result = on_one_device
    # 12 batches of 16 through 50 places, one view each.
    assert model.support_set.pointer.numpy() == 12 * 16 % 50
    assert result.steps == 12


@pytest.mark.long
def test_same_seed_repeats_a_run_to_the_last_bit_and_another_seed_does_not(tfrecords, logical_cpus):
    job = loop.Job(tfrecords["unlabelled"], tfrecords["train"])
    (again, _, first), (_, _, second) = (
        train_with_variables(settings(), job, mirrored(logical_cpus[:1])) for _ in range(2)
    )
    other, _ = train(tfrecords, logical_cpus[:1], seed=1)
    assert any(name.startswith("optimizer") for name in first)
    for (name, a), b in zip(first.items(), second.values(), strict=True):
        np.testing.assert_array_equal(b, a, err_msg=name)
    assert not np.array_equal(other.encoder.get_weights()[0], again.encoder.get_weights()[0])


@pytest.mark.long
@pytest.mark.parametrize("changes", [{}, NORM], ids=["example", "paper with batch norm"])
def test_labels_leave_no_trace_in_the_encoder(tfrecords, logical_cpus, tmp_path, changes):
    rng = np.random.default_rng(0)
    encoders, probes = [], []
    for name, relabel in (("true", lambda label: label), ("shuffled", lambda _: rng.integers(4))):
        directory = tmp_path / name
        directory.mkdir()
        files = tfrecords | {"train": write_relabelled(tfrecords["train"], directory, relabel)}
        job = loop.Job(files["unlabelled"], files["train"])
        model, _, variables = train_with_variables(settings(**changes), job, mirrored(logical_cpus[:1]))
        encoders.append({name: value for name, value in variables.items() if "probe" not in name})
        probes.append(model.probe.classifier.get_weights()[0])
    for name, value in encoders[0].items():
        np.testing.assert_array_equal(encoders[1][name], value, err_msg=name)
    assert not np.array_equal(probes[0], probes[1])


@pytest.mark.long
@pytest.mark.parametrize("changes", [{}, NORM, {"neighbour": "none"}], ids=["example", "paper", "simclr"])
def test_training_learns(tfrecords, logical_cpus, changes):
    mild = {"crop_scale": (0.8, 1.0), "flip": False, "brightness": 0.1}
    optimizer = {"learning_rate": 3e-3, "schedule": "cosine", "warmup": "1 epochs"}
    _, result = train(tfrecords, logical_cpus[:1], **changes, epochs=15, optimizer=optimizer, augmentation=mild)
    first, last = result.history[0], result.history[-1]
    # Chance is log(16) = 2.77 and 1/16.
    assert last["c_loss"] < first["c_loss"] - 0.5
    assert last["c_acc"] > 0.2
    assert last["knn_acc"] > 0.8


def test_without_labels_there_is_no_probe_and_the_rest_goes_on(tfrecords, logical_cpus, tmp_path):
    empty = str(tmp_path / "empty")
    with tf.io.TFRecordWriter(empty):
        pass
    model, result = train(tfrecords | {"train": [empty]}, logical_cpus[:1], epochs=1)
    assert model.probe is None
    assert "val_p_acc" not in result.history[0]


def test_history_and_tensorboard_are_written(tfrecords, logical_cpus, tmp_path):
    watch = {"every": "4 steps"}
    _, result = train(tfrecords, logical_cpus[:1], str(tmp_path), watch=watch, duration="10 steps")
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == result.history
    assert [row["step"] for row in result.history] == [4, 8, 10]
    assert [row["epoch"] for row in result.history] == [1, 2, 2]
    (events,) = tmp_path.glob("events.out.tfevents.*")
    tags = {
        value.tag
        for record in tf.data.TFRecordDataset(str(events)).as_numpy_iterator()
        for value in tf.compat.v1.Event.FromString(record).summary.value
    }
    assert tags == {
        *("c_loss", "c_acc", "r_acc", "p_loss", "p_acc", "val_p_loss", "val_p_acc", "knn_acc"),
        *("learning_rate", "gradient_norm", "images_per_second", "neighbour_label_share", "support_set_age"),
        *("projection_std", "rank_me", "epoch"),
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [events.name, "history.csv"]
    # After an interruption, all rows are written again, and TensorBoard shows each once.
    # So does whoever follows the training.
    told: list[dict[str, float]] = []
    with observing.observed_by(told.append):
        again = History(str(tmp_path), result.history)
        again.append(result.history[-1] | {"step": 11, "new": 1.0})
    again.append(result.history[-1] | {"step": 12})
    again.close()
    assert [row["step"] for row in told] == [4, 8, 10, 11]
    (events,) = tmp_path.glob("events.out.tfevents.*")
    written = [
        tf.compat.v1.Event.FromString(record).step
        for record in tf.data.TFRecordDataset(str(events)).as_numpy_iterator()
        if b"c_loss" in record
    ]
    assert written == [4, 8, 10, 11, 12]
    with open(tmp_path / "history.csv", newline="") as file:
        assert [row["new"] for row in csv.DictReader(file)] == ["", "", "", "1.0", ""]


def test_the_support_set_ages_as_a_queue(on_one_device):
    _, result = on_one_device
    # 50 places, 16 new ones a step: nothing is older than four steps.
    assert all(0 <= row["support_set_age"] < 4 for row in result.history)


@pytest.mark.long
def test_a_clipped_gradient_moves_sgds_weights_no_further_than_allowed(tfrecords, logical_cpus):
    optimizer = {"name": "sgd", "momentum": 0.0, "learning_rate": 1.0, "clip_norm": 1e-3}
    trained, result = train(tfrecords, logical_cpus[:2], duration="1 steps", optimizer=optimizer)
    assert result.history[0]["gradient_norm"] > 0.01
    keras.utils.set_random_seed(0)
    untrained = type(trained)(settings(), (32, 32), 4, "float32")
    names = [name for name in state(trained) if name.startswith(("encoder", "projection"))]
    moved = [np.sum((state(trained)[name] - state(untrained)[name]) ** 2) for name in names]
    assert np.sqrt(np.sum(moved)) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.long
def test_xla_computes_the_same_on_one_device_and_is_refused_on_several(tfrecords, logical_cpus):
    job = loop.Job(tfrecords["unlabelled"], tfrecords["train"])
    # SGD, so that rounding stays rounding.
    changes = NORM | {"duration": "2 steps", "optimizer": {"name": "sgd", "learning_rate": 1e-3}}
    plain, compiled = (
        train_with_variables(settings(**changes, xla=xla), job, tf.distribute.OneDeviceStrategy(logical_cpus[0]))[2]
        for xla in (False, True)
    )
    for name, value in plain.items():
        absolute = 1e-2 if "probe" in name else 1e-3
        np.testing.assert_allclose(compiled[name], value, rtol=1e-2, atol=absolute, err_msg=name)
    with pytest.raises(SettingsError, match=r"trainer\.xla is for one device, and there are 4: set it to false"):
        loop.train(settings(xla=True), job)


def test_divergence_is_diagnosed(tfrecords, logical_cpus):
    optimizer = {"name": "sgd", "learning_rate": 1e30}
    with pytest.raises(TrainingError) as caught:
        train(tfrecords, logical_cpus[:1], optimizer=optimizer)
    message = str(caught.value)
    assert "of step 2 is not finite" in message or "of step 3 is not finite" in message
    assert "learning rate 1e+30" in message
    assert "unlabelled/0000" in message
    assert "and 11 more. Lower trainer.optimizer.learning_rate" in message
    assert caught.value.exit_code == 6


def test_divergence_that_only_a_measurement_shows_is_diagnosed(tfrecords, logical_cpus):
    """The only step has a finite loss, and its update gives weights that overflow."""
    changes = {"optimizer": {"name": "sgd", "learning_rate": 1e37}, "duration": "1 steps"}
    with pytest.raises(TrainingError, match=r"after step 1, the embeddings of \d+ of 96 measured images are not"):
        train(tfrecords, logical_cpus[:1], **changes)


def test_an_online_probe_that_diverges_is_warned_of_and_does_not_end_the_training(tfrecords, logical_cpus, caplog):
    probe = SETTINGS["online_probe"] | {"learning_rate": 1e38}
    _, result = train(tfrecords, logical_cpus[:1], online_probe=probe)
    assert any("online probe diverged at step" in message for message in caplog.messages)
    assert "val_p_loss" not in result.history[-1]
    assert 0 <= result.history[-1]["knn_acc"] <= 1


@pytest.mark.parametrize(
    ("watch", "what"),
    [
        ({"collapse_std": 1.0, "collapse_rank": 0}, "standard deviation of the projections has been below 1.0"),
        ({"collapse_std": 0, "collapse_rank": 8.0}, r"effective rank \(RankMe\) of the embeddings has been below 8.0"),
    ],
)
def test_collapse_is_diagnosed_after_as_many_measurements_as_asked(tfrecords, logical_cpus, tmp_path, watch, what):
    with pytest.raises(TrainingError, match=f"at step 4 the {what} for 2 measurements"):
        train(tfrecords, logical_cpus[:1], str(tmp_path), watch=watch | {"every": "2 steps", "patience": 2})
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 3


def test_batch_that_replicas_cannot_share_is_refused_with_a_way_out(tfrecords, logical_cpus):
    with pytest.raises(SettingsError, match=r"online_probe\.batch_size is 9, which 4 devices.* for instance 12"):
        train(tfrecords, logical_cpus, online_probe={"batch_size": 9})
    with pytest.raises(SettingsError, match=r"trainer\.batch_size is 16, which 2 devices and trainer\.accumulate=3"):
        train(tfrecords, logical_cpus[:2], accumulate=3)


def test_fewer_images_than_a_batch_are_refused(tfrecords, logical_cpus):
    with pytest.raises(DataError, match=r"`unlabelled` has 96 images, fewer than one batch of 128.* at most 96"):
        train(tfrecords, logical_cpus[:1], batch_size=128)


@pytest.mark.long
def test_a_training_goes_on_from_a_checkpoint_of_other_settings(tfrecords, logical_cpus, tmp_path, caplog):
    caplog.set_level("INFO", "nnclr")
    root = str(tmp_path / "checkpoints")

    def train_on(**changes):
        caplog.clear()
        job = loop.Job(tfrecords["unlabelled"], tfrecords["train"], checkpoint_root=root)
        model, result = loop.train(settings(**changes), job, mirrored(logical_cpus[:1]))
        return state(model), result

    first, _ = train_on(duration="4 steps")
    (path,) = map(str, (tmp_path / "checkpoints").glob("*/step-00000004.npz"))
    # What only measures a training does not make it another one.
    again, _ = train_on(duration="4 steps", watch={"collapse_rank": 0, "every": "2 steps"})
    assert f"Going on from {path}, after step 4." in caplog.messages
    assert all((again[name] == value).all() for name, value in first.items())
    changes = {"duration": "5 steps", "optimizer": {"learning_rate": 1e-4}}
    _, anew = train_on(**changes, seed=1)
    (advice,) = [message for message in caplog.messages if "starts anew" in message]
    assert advice.startswith("This training starts anew. A training that differs in duration (4 steps, now 5 steps), ")
    assert "optimizer.learning_rate (0.001, now 0.0001), seed (0, now 1) has a checkpoint after step 4" in advice
    assert advice.endswith(f"set trainer.from_checkpoint={path}.")
    assert anew.seconds > 0
    on, result = train_on(**changes, from_checkpoint=path)
    assert f"Going on from {path}, after step 4." in caplog.messages
    assert result.steps == 5
    kernel = next(name for name in first if name.endswith("kernel"))
    assert 0 < np.abs(on[kernel] - first[kernel]).max() < 2e-4
    with pytest.raises(SettingsError, match=r"trainer\.from_checkpoint: there is no file nowhere\.npz"):
        train_on(seed=2, from_checkpoint="nowhere.npz")
    with pytest.raises(SettingsError, match=rf"from_checkpoint: {tmp_path} cannot be used: Is a directory\."):
        train_on(seed=2, from_checkpoint=str(tmp_path))
    with pytest.raises(SettingsError, match=r"from_checkpoint: .* is of step 4, and the training has only 3 steps"):
        train_on(duration="3 steps", from_checkpoint=path)
    with pytest.raises(SettingsError, match=r"from_checkpoint: .* cannot be used: it has other variables"):
        train_on(encoder={"width": 4}, from_checkpoint=path)


def test_a_training_that_could_save_no_checkpoint_does_not_begin(tfrecords, logical_cpus, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "build", lambda *_: pytest.fail("the model was built"))
    (tmp_path / "file").touch()
    job = loop.Job(tfrecords["unlabelled"], tfrecords["train"], checkpoint_root=str(tmp_path / "file"))
    with pytest.raises(SettingsError, match="Checkpoints cannot be written to"):
        loop.train(settings(), job, mirrored(logical_cpus[:1]))


@pytest.mark.long
def test_smaller_views_change_the_training(tfrecords, logical_cpus):
    resizing = {"size": 0.97, "until": 0.5}
    model, result = train(tfrecords, logical_cpus[:1], **NORM, progressive_resizing=resizing)
    assert result.steps == 12
    whole, _ = train(tfrecords, logical_cpus[:1], **NORM)
    kernel = next(name for name in state(model) if name.startswith("encoder") and name.endswith("kernel"))
    assert not np.allclose(state(model)[kernel], state(whole)[kernel])
