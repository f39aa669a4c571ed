"""Durations in the settings become steps, and steps become epochs and batches."""

from trainer.config import TrainerSettings
from trainer.plan import Plan


def plan(images=2_050, **settings) -> Plan:
    return Plan.of(TrainerSettings.model_validate({"batch_size": 100} | settings), images)


def test_plan_counts_everything_in_steps():
    planned = plan(epochs=3, optimizer={"warmup": "0.5 epochs"}, watch={"every": "5 steps"}, checkpoint={"every": 2})
    assert planned == Plan(steps_per_epoch=20, steps=60, warmup=10, smaller_views=0, watch_every=5, checkpoint_every=40)
    assert plan(epochs=3, encoder={"pooling": "average"}, progressive_resizing={"size": 0.5}).smaller_views == 45
    assert plan(epochs=3, duration="450 examples").steps == 5


def test_steps_become_epochs_and_batches():
    assert [plan(epochs=3).epoch_and_batch(step) for step in (0, 19, 20, 59)] == [(1, 0), (1, 19), (2, 0), (3, 19)]
    assert (plan(epochs=3).epochs, plan(duration="21 steps").epochs) == (3, 2)
