"""Durations in the units that people think in."""

import pytest
from pydantic import TypeAdapter, ValidationError

from trainer.config import TrainerSettings
from trainer.duration import Duration, in_steps
from trainer.errors import DataError, SettingsError
from trainer.plan import Plan

READ = TypeAdapter(Duration).validate_python


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        (3, 60),
        ("3", 60),
        ("3 epochs", 60),
        ("1 epoch", 20),
        ("0.25 epochs", 5),
        ("0.15 epochs", 3),
        ("0.151 epochs", 4),
        ("7 steps", 7),
        ("7steps", 7),
        ("1000 examples", 10),
        ("1_001 examples", 11),
        ("1e3 examples", 10),
        (0, 0),
    ],
)
def test_becomes_whole_steps(given, steps):
    assert in_steps(READ(given), batch_size=100, steps_per_epoch=20) == steps


@pytest.mark.parametrize("given", ["", "-1", "3 weeks", "epochs", "1..5 epochs", True, None, "nan", "3 epochs 2 steps"])
def test_anything_else_is_refused_with_examples(given):
    with pytest.raises(ValidationError, match="a number and its unit, like `10 epochs`, `500 steps` or `1e6 examples`"):
        READ(given)


def test_is_written_as_it_is_read():
    assert READ(READ("5 step")) == "5 steps"


def plan(images=2_050, **settings):
    return Plan.of(TrainerSettings.model_validate({"batch_size": 100} | settings), images)


def test_plan_counts_everything_in_steps():
    found = plan(epochs=3, optimizer={"warmup": "0.5 epochs"}, watch={"every": "5 steps"}, checkpoint={"every": 2})
    assert found == Plan(steps_per_epoch=20, steps=60, warmup=10, small_views=0, watch_every=5, checkpoint_every=40)
    assert plan(epochs=3, encoder={"pooling": "average"}, progressive_resizing={"size": 0.5}).small_views == 45
    assert plan(epochs=3, duration="450 examples").steps == 5
    assert [found.place(step) for step in (0, 19, 20, 59)] == [(1, 0), (1, 19), (2, 0), (3, 19)]
    assert (found.epochs, plan(duration="21 steps").epochs) == (3, 2)


def test_a_warmup_as_long_as_the_training_is_refused():
    with pytest.raises(SettingsError, match=r"trainer\.optimizer\.warmup is 3 epochs, which is 60 steps.* has 40"):
        plan(epochs=2, optimizer={"warmup": 3})


def test_fewer_images_than_a_batch_are_refused():
    with pytest.raises(DataError, match=r"`unlabelled` has 96 images, fewer than one batch of 100.* at most 96"):
        plan(images=96)
