"""Durations in epochs, steps or examples become whole steps."""

import pytest
from pydantic import TypeAdapter, ValidationError

from trainer.duration import Duration, PositiveDuration, in_steps

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


@pytest.mark.parametrize(
    "given", ["", "-1", "3 weeks", "epochs", "1..5 epochs", "1.5.3 epochs", True, None, "nan", "3 epochs 2 steps"]
)
def test_anything_else_is_refused_with_examples(given):
    with pytest.raises(ValidationError, match="a number and its unit, like `10 epochs`, `500 steps` or `1e6 examples`"):
        READ(given)


@pytest.mark.parametrize("given", ["1e400 examples", "1e16 steps"])
def test_more_than_can_be_counted_is_refused(given):
    with pytest.raises(ValidationError, match="at most 1e\\+15"):
        READ(given)


@pytest.mark.parametrize("given", [0, "0 steps", "0.0 epochs", "0e3 examples"])
def test_no_time_at_all_is_refused_where_something_must_happen(given):
    with pytest.raises(ValidationError, match="above 0"):
        TypeAdapter(PositiveDuration).validate_python(given)
    assert in_steps(READ(given), 100, 20) == 0


def test_is_written_as_it_is_read():
    assert READ(READ("5 step")) == "5 steps"
