"""A training that needs more memory than there is."""

import pytest
import tensorflow as tf

from tests.trainer.conftest import mirrored
from trainer import loop, memory
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
    for advice in ("batch_size below 16,", "accumulate above 1:", f"support_set_size below {MEMBERS} "):
        assert advice in str(raised.value)


def test_a_step_without_room_is_explained(tfrecords, logical_cpus, monkeypatch):
    monkeypatch.setattr(loop, "whole_view_size", lambda *_: (2**22, 2**22))
    job = loop.Job(tfrecords["unlabelled"], [])
    with pytest.raises(SettingsError, match="more memory than there is") as raised:
        loop.train(TrainerSettings.model_validate(SETTINGS), job, mirrored(logical_cpus[:1]))
    assert isinstance(raised.value.__cause__, tf.errors.ResourceExhaustedError)


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.InternalError(None, None, "Dst tensor is not initialized."),
        tf.errors.InvalidArgumentError(None, None, "Cannot parse tensor from proto: dtype: DT_FLOAT"),
        MemoryError(),
    ],
)
def test_other_errors_for_the_same_reason_are_explained(error):
    with pytest.raises(SettingsError, match="more memory than there is"), memory.explained(TrainerSettings()):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.InvalidArgumentError(None, None, "Incompatible shapes"),
        tf.errors.ResourceExhaustedError(None, None, "a.tfrecord; Too many open files"),
        tf.errors.ResourceExhaustedError(None, None, "a.tfrecord; No space left on device"),
    ],
)
def test_errors_for_other_reasons_stay(error):
    with pytest.raises(type(error), match=error.message), memory.explained(TrainerSettings()):
        raise error
