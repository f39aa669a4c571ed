"""Durations in the settings become steps, and steps become epochs and batches."""

from trainer.config import TrainerSettings
from trainer.plan import Plan


def plan(**changes) -> Plan:
    return Plan.of(TrainerSettings.model_validate({"batch_size": 10, "epochs": 3} | changes), images=45)


def test_durations_are_steps_of_whole_batches():
    settings = {
        "optimizer": {"warmup": "0.5 epochs"},
        "watch": {"every": "30 examples"},
        "checkpoint": {"every": "2 steps"},
        "encoder": {"pooling": "average"},
        "progressive_resizing": {"size": 0.5, "until": 0.25},
    }
    assert plan(**settings) == Plan(
        steps_per_epoch=4, steps=12, warmup=2, smaller_views=3, watch_every=3, checkpoint_every=2
    )
    assert plan().smaller_views == 0
    assert plan(duration="7 steps").steps == 7


def test_steps_become_epochs_and_batches():
    assert [plan().epoch_and_batch(step) for step in (0, 3, 4, 11)] == [(1, 0), (1, 3), (2, 0), (3, 3)]
    assert plan().epochs == 3
    assert plan(duration="5 steps").epochs == 2
