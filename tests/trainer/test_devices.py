"""The same global batches on any number of devices give the same training: losses, gradients, weights, statistics.

Compared in float32 after two steps; see `equality_cases` for how closely.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.conftest import mirrored
from tests.trainer.equality_cases import BATCH, CASES, STEPS, require_same_metrics, require_same_state
from trainer import loop
from trainer.config import TrainerSettings
from trainer.global_step import GlobalStep
from trainer.plan import Plan
from trainer.state import variables

SIZE = (32, 32)


def trained(name: str, devices: list[str]) -> tuple[list[dict[str, float]], dict[str, np.ndarray]]:
    """The metrics of each step, and everything that training changes."""
    settings = TrainerSettings.model_validate(
        {"batch_size": BATCH, "epochs": STEPS, "support_set_size": 25, "precision": "float32"} | CASES[name]
    )
    rng = np.random.default_rng(0)
    batches = [
        (
            {"image": rng.integers(0, 256, (BATCH, *SIZE, 3), np.uint8)},
            {"image": rng.integers(0, 256, (8, *SIZE, 3), np.uint8), "label": np.arange(8) % 4},
        )
        for _ in range(STEPS)
    ]
    strategy = mirrored(devices)
    model, training_step = loop.build(settings, Plan.of(settings, BATCH), SIZE, 4, strategy)

    global_step = GlobalStep(strategy, training_step)

    def share(batch, context):
        rows = {name: np.split(value, len(devices))[context.replica_id_in_sync_group] for name, value in batch.items()}
        return {name: tf.constant(value) for name, value in rows.items()}

    history = []
    for i, parts in enumerate(batches):
        shares = [
            strategy.experimental_distribute_values_from_function(lambda context, part=part: share(part, context))
            for part in parts
        ]
        history.append(global_step.named(global_step(*shares, tf.constant(i, tf.int64))))
    state = variables(model, training_step.optimizer)
    for part, variable in state.items():
        copies = [copy.numpy() for copy in strategy.experimental_local_results(variable)]
        assert len(copies) == len(devices)
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0], err_msg=f"The replicas differ in {part}.")
    return history, {part: variable.numpy() for part, variable in state.items()}


@pytest.fixture(scope="module")
def on_one_device(logical_cpus):
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    return functools.cache(lambda name: trained(name, logical_cpus[:1]))


# Graphs of four replicas, of a ResNet and of several sizes of views take long to build.
_LONG = [
    *(
        "resnet18",
        "vit-tiny, first layers slower",
        "small views",
        "clipped, in two parts, one of three neighbours, byol",
    ),
    *("simclr, batch norm, lars", "straight through, batch norm, sgd", "paper, adamw"),
]
TWO_REPLICAS = dict.fromkeys(_LONG, pytest.mark.long)
FOUR_REPLICAS = {"example, sgd": (), "paper, batch norm, lars": pytest.mark.long}


@pytest.mark.parametrize(
    ("name", "replicas"),
    [
        *(pytest.param(name, 2, marks=TWO_REPLICAS.get(name, ())) for name in CASES),
        *(pytest.param(name, 4, marks=FOUR_REPLICAS.get(name, pytest.mark.soak)) for name in CASES),
    ],
)
def test_many_devices_equal_one(on_one_device, logical_cpus, name, replicas):
    expected_history, expected = on_one_device(name)
    require_training(expected_history, expected)
    history, state = trained(name, logical_cpus[:replicas])
    for row, expected_row in zip(history, expected_history, strict=True):
        require_same_metrics(row, expected_row)
    normalised = "batch_norm" in str(CASES[name]) or "resnet" in name
    assert any("moving_variance" in part for part in state) == normalised
    require_same_state(name, state, expected)


def require_training(history: list[dict[str, float]], state: dict[str, np.ndarray]) -> None:
    """Demands that training changed what is compared."""
    assert all(row["gradient_norm"] > 0 for row in history)
    assert int(state["support_set/pointer"]) == STEPS * BATCH % 25
    velocities = [value for part, value in state.items() if "velocity" in part or "momentum" in part]
    assert all(np.abs(value).max() > 0 for value in velocities)
