"""A training that needs more memory than there is."""

import pytest
import tensorflow as tf

from pipeline.bench import training
from trainer import loop
from trainer.config import TrainerSettings
from trainer.errors import SettingsError
from trainer.plan import Plan

# Of these vectors of 128 numbers no machine has room for one.
MEMBERS = 10**13
SETTINGS = {
    "batch_size": 16,
    "precision": "float32",
    "encoder": {"width": 8, "pooling": "average"},
    "online_probe": {"batch_size": 8},
}
SIZE = (32, 32)


def test_a_model_without_room_is_explained():
    settings = TrainerSettings.model_validate(SETTINGS | {"support_set_size": MEMBERS})
    with pytest.raises(SettingsError, match=r"more memory than there is, for a tensor with shape\[") as raised:
        loop.build(settings, Plan.of(settings, 16), SIZE, 0, tf.distribute.get_strategy())
    for advice in ("batch_size below 16,", "accumulate above 1,", f"support_set_size than {MEMBERS} "):
        assert advice in str(raised.value)


def test_a_step_without_room_is_explained(tfrecords, monkeypatch):
    monkeypatch.setattr(loop, "whole_view_size", lambda *_: (2**22, 2**22))
    job = loop.Job(tfrecords["unlabelled"], [])
    with pytest.raises(SettingsError, match="more memory than there is") as raised:
        loop.train(TrainerSettings.model_validate(SETTINGS), job)
    assert isinstance(raised.value.__cause__, tf.errors.ResourceExhaustedError)


def test_other_errors_of_tensorflow_are_not_taken_for_it():
    step = training.Step(TrainerSettings.model_validate(SETTINGS), SIZE)
    step._batch = {"image": tf.zeros([16, *SIZE, 4], tf.uint8)}, step._batch[1]
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)) as raised:
        step()
    assert not isinstance(raised.value, SettingsError)
