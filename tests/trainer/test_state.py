"""Every variable of a training has a name of its own, the same in every process."""

import re

import keras
import numpy as np
import pytest

from tests.trainer.conftest import fresh_collectives
from trainer import state
from trainer.config import TrainerSettings
from trainer.model import NNCLR
from trainer.plan import Plan
from trainer.step import TrainingStep

SIZE = (32, 32)


def built(neighbour: str, classes: int) -> tuple[NNCLR, TrainingStep]:
    fresh_collectives()
    settings = TrainerSettings.model_validate(
        {"encoder": {"width": 8}, "neighbour": neighbour, "batch_size": 8, "support_set_size": 20}
        | {"projection": {"units": [8]}, "prediction": {"units": [8]}, "precision": "float32"}
    )
    keras.utils.set_random_seed(0)
    model = NNCLR(settings, SIZE, classes, dtype="float32")
    return model, TrainingStep(model, settings, Plan.of(settings, 80), SIZE)


@pytest.mark.parametrize(
    ("neighbour", "classes", "parts"),
    [
        ("none", 0, {"encoder", "projection", "optimizer"}),
        ("straight_through", 0, {"encoder", "projection", "optimizer", "support_set"}),
        (
            "paper",
            4,
            {
                *("encoder", "projection", "prediction", "optimizer", "support_set"),
                *("online_probe", "probe_optimizer"),
            },
        ),
    ],
)
def test_all_parts_are_named(neighbour, classes, parts):
    model, step = built(neighbour, classes)
    variables = state.variables(model, step.optimizer)
    assert {name.partition("/")[0] for name in variables} == parts
    assert all(re.fullmatch(r"\w+/\d{4}-\w+|support_set/(members|pointer)", name) for name in variables)
    assert variables["encoder/0000-kernel"].shape == (3, 3, 3, 8)
    assert list(variables) == list(state.variables(*_again(neighbour, classes)))


def _again(neighbour: str, classes: int):
    model, step = built(neighbour, classes)
    return model, step.optimizer


def test_the_models_variables_are_those_without_the_optimisers():
    model, step = built("straight_through", 0)
    everything = state.variables(model, step.optimizer)
    own = state.variables(model)
    assert own.keys() == {name for name in everything if not name.startswith("optimizer/")}
    np.testing.assert_array_equal(own["support_set/members"].numpy(), model.support_set.members.numpy())
