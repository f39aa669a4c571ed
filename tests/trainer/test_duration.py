"""Durations in epochs, steps or examples become whole steps."""

import pytest
from pydantic import TypeAdapter, ValidationError

from trainer.duration import Duration, in_steps

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
