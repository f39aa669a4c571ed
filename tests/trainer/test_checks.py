"""Trainings that cannot work are refused before anything is built, with what to change."""

import re

import pytest

from trainer.checks import check
from trainer.config import TrainerSettings
from trainer.errors import DataError, SettingsError


@pytest.mark.parametrize(
    ("changes", "images", "replicas", "error", "message"),
    [
        ({"batch_size": 101}, 1_000, 2, SettingsError, r"trainer\.batch_size is 101, which 2 devices .* instance 102"),
        (
            {"batch_size": 100, "accumulate": 3},
            *(1_000, 2, SettingsError),
            r"which 2 devices and trainer\.accumulate=3 cannot share evenly: set it to a multiple of 6, .* 102",
        ),
        ({}, 1_000, 2, SettingsError, r"trainer\.online_probe\.batch_size is 25, which 2 devices .* instance 26"),
        ({"xla": True}, 1_000, 4, SettingsError, r"trainer\.xla is for one device, and there are 4"),
        ({}, 499, 1, DataError, r"`unlabelled` has 499 images, fewer than one batch of 500.* at most 499"),
        (
            {"optimizer": {"warmup": "2 epochs"}, "epochs": 2},
            *(1_000, 1, SettingsError),
            r"trainer\.optimizer\.warmup is 2 epochs, which is 4 steps, and the whole training has 4",
        ),
    ],
)
def test_what_cannot_work_is_refused(changes, images, replicas, error, message):
    with pytest.raises(error, match=message):
        check(TrainerSettings.model_validate(changes), images, replicas)


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"batch_size": 16}, "only 15 negatives, from trainer.batch_size=16:"),
        ({"batch_size": 64, "accumulate": 4}, "only 15 negatives, from trainer.batch_size=64 divided by trainer.acc"),
        ({"batch_size": 64, "accumulate": 2}, None),
    ],
)
def test_few_negatives_are_warned_of(changes, warning, caplog):
    check(TrainerSettings.model_validate(changes), 1_000, 1)
    assert [warning in message for message in caplog.messages] == ([True] if warning else [])


def test_what_works_is_not_refused():
    probe = {"batch_size": 24}
    check(TrainerSettings.model_validate({"online_probe": probe, "accumulate": 5}), 500, 4)
    check(TrainerSettings.model_validate({"xla": True, "optimizer": {"warmup": "1 epochs"}, "epochs": 2}), 1_000, 1)


PRETRAINED = {"encoder": {"name": "efficientnet-lite0", "weights": "lite0.weights.h5"}}


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        (PRETRAINED | {"optimizer": {"learning_rate": 0.002}}, r"is 0\.002, .*rate to about 0\.0001 "),
        (
            PRETRAINED | {"optimizer": {"name": "adamw", "learning_rate": 0.0004, "scale_to": 100}},
            r"is 0\.002, .*rate to about 2e-05 ",
        ),
        ({"encoder": {"name": "./theirs.keras"}, "optimizer": {"learning_rate": 0.001}}, r"is 0\.001, "),
        (PRETRAINED | {"optimizer": {"learning_rate": 0.0001}}, ""),
        (PRETRAINED | {"optimizer": {"name": "sgd", "learning_rate": 0.03}}, ""),
        (PRETRAINED | {"optimizer": {"learning_rate": 0.002}, "warm_start": "champion"}, ""),
        ({"optimizer": {"learning_rate": 0.002}}, ""),
    ],
)
def test_a_high_rate_for_a_pretrained_network_is_warned_of(changes, warned, caplog):
    check(TrainerSettings.model_validate({"batch_size": 500} | changes), 1_000, 1)
    assert [bool(re.search(warned, message)) for message in caplog.messages] == ([True] if warned else [])
