"""A training with a time limit gets as many steps as fit, and is the training that this many steps give."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter, ValidationError

from tests.trainer.conftest import mirrored
from tests.trainer.test_loop import SETTINGS
from tests.trainer.variables import train_with_variables
from trainer import loop, pace, resuming
from trainer.checkpoints import Checkpoints
from trainer.config import TrainerSettings
from trainer.errors import SettingsError, Stopped
from trainer.pace import Pace
from trainer.plan import Plan
from trainer.progress import Estimate
from trainer.time_limit import TimeLimit, in_seconds, spoken
from trainer.watch import Watch

READ = TypeAdapter(TimeLimit).validate_python
# With a rate and views that depend on the length.
CHANGES = {
    "encoder": {"width": 8, "pooling": "average"},
    "progressive_resizing": {"size": 0.97, "until": 0.5},
    "optimizer": {"schedule": "cosine", "warmup": "3 steps"},
    "watch": {"every": "30 steps"},
    "checkpoint": {"every": "20 steps"},
}


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("2h", 7200), ("90m", 5400), ("1h 30m", 5400), ("1.5 h", 5400), ("90min", 5400), ("45s", 45), ("1h1m1s", 3661)],
)
def test_a_limit_is_read_with_its_units(given, seconds):
    assert in_seconds(READ(given)) == seconds


@pytest.mark.parametrize("given", [7200, "7200", "", "0s", "-1h", "2 hours", "1m 1h", "h", True, None])
def test_anything_else_is_refused_with_examples(given):
    with pytest.raises(ValidationError, match="a time above 0 with its units, like `2h`, `90m` or `1h 30m`"):
        READ(given)


def test_times_are_told_in_fitting_units():
    assert [spoken(seconds) for seconds in (4.4, 75, 600, 3540, 3599, 7380)] == [
        *("4 s", "75 s", "10 min", "59 min", "1 h 0 min", "2 h 3 min")
    ]


def test_a_limit_wins_over_epochs_and_excludes_a_duration():
    assert TrainerSettings(epochs=7, time_limit="1h").time_limit == "1h"
    with pytest.raises(ValidationError, match=r"time_limit is 1h and duration is 5 steps.* set one of them to null"):
        TrainerSettings(duration="5 steps", time_limit="1h")


def test_as_many_steps_fit_as_the_parts_of_a_training_take():
    settings = TrainerSettings.model_validate(
        {"batch_size": 100, "encoder": {"pooling": "average"}, "progressive_resizing": {"size": 0.5, "until": 0.5}}
        | {"watch": {"every": "10 steps"}, "checkpoint": {"every": "1 epochs"}}
    )
    speed = Pace(step=2.0, smaller_step=1.0, opening=0.5, measurement=5.0, checkpoint=3.0)
    # 50 small steps, 50 whole ones, 5 epochs, 10 measurements, 5 checkpoints.
    assert speed.of_rest(Plan.of(settings, 2000, 100), 0) == 50 + 100 + 2.5 + 50 + 15
    # The last step is measured and saved, whatever the intervals.
    assert speed.of_rest(Plan.of(settings, 2000, 105), 100) == 10 + 0.5 + 5 + 3
    assert speed.steps_within(217.5, settings, 2000, 0) == 100
    assert speed.steps_within(217.4, settings, 2000, 0) == 99
    assert speed.steps_within(3.0, settings, 2000, 7) == 7


class Clock:
    """A clock that only the parts of a training move on; a step with smaller views takes half as long as others."""

    def __init__(self, patch: pytest.MonkeyPatch, step: float = 0.5):
        self.now, self.steps = 1000.0, 0
        patch.setattr(time, "monotonic", lambda: self.now)
        self._slow(
            patch, loop._Training, "_launch", lambda _, batch, number, size, stop: step if size[0] == 32 else step / 2
        )
        self._slow(patch, Watch, "measure", lambda *_: 1.5)
        self._slow(patch, resuming, "save", lambda *_: 0.5)

    def _slow(self, patch, owner, name, seconds) -> None:
        original = getattr(owner, name)

        def slower(*arguments):
            self.steps += name == "_launch"
            # The first step compiles the graph.
            self.now += seconds(*arguments) + (4.0 if name == "_launch" and self.steps == 1 else 0)
            return original(*arguments)

        patch.setattr(owner, name, slower)


def train(tfrecords, device: str, root: Path | None = None, **changes):
    job = loop.Job(tfrecords["unlabelled"], tfrecords["train"], checkpoint_root=root and str(root))
    chosen = TrainerSettings.model_validate(SETTINGS | CHANGES | changes)
    return train_with_variables(chosen, job, mirrored([device]))


def test_a_training_ends_within_its_limit_and_uses_it(tfrecords, logical_cpus, monkeypatch, tmp_path, caplog):
    caplog.set_level("INFO", "nnclr")
    clock = Clock(monkeypatch, step=2.0)
    start, whole = clock.now, {"size": 1.0}
    settings = {"time_limit": "1m", "epochs": 100, "progressive_resizing": whole}
    model, result, _ = train(tfrecords, logical_cpus[0], tmp_path, **settings)
    # No further step would have fitted.
    assert clock.now - start + 2.0 > 58.0
    assert clock.now - start <= (1 - pace.RESERVED_SHARE) * 60
    assert f"{result.steps} steps fit into trainer.time_limit=1m." in caplog.messages
    assert result.history[-1]["learning_rate"] < 2e-5
    # The steps that measured the speed count neither as training nor as steps of it, and leave no trace.
    assert model.support_set.pointer.numpy() == 16 * result.steps % SETTINGS["support_set_size"]
    assert result.seconds == 2.0 * result.steps


@pytest.mark.long
def test_smaller_views_have_a_speed_of_their_own(tfrecords, logical_cpus, monkeypatch):
    clock = Clock(monkeypatch)
    start = clock.now
    _, result, _ = train(tfrecords, logical_cpus[0], time_limit="40s")
    assert 0.9 * 40 < clock.now - start <= (1 - pace.RESERVED_SHARE) * 40
    assert result.seconds == 0.25 * (half := round(result.steps / 2)) + 0.5 * (result.steps - half)


@pytest.mark.long
def test_a_limit_that_is_too_short_is_refused(tfrecords, logical_cpus, monkeypatch):
    Clock(monkeypatch)
    with pytest.raises(
        SettingsError, match=r"time_limit is 5s, and no step fits .* took \d+ s, and a step takes 0.5 s"
    ):
        train(tfrecords, logical_cpus[0], time_limit="5s")


@pytest.mark.long
def test_stopped_and_resumed_it_is_the_training_of_its_length(tfrecords, logical_cpus, tmp_path, monkeypatch):
    def stop_at(number: int) -> None:
        launch = loop._Training._launch

        def launch_and_ask(self, batch, step, *rest):
            if step == number:
                os.kill(os.getpid(), signal.SIGTERM)
            return launch(self, batch, step, *rest)

        patch.setattr(loop._Training, "_launch", launch_and_ask)

    with monkeypatch.context() as patch:
        Clock(patch)
        # While the speed is measured.
        stop_at(0)
        with pytest.raises(Stopped, match="while its speed was measured"):
            train(tfrecords, logical_cpus[0], tmp_path, time_limit="1m")
    assert not list(tmp_path.rglob("*.npz"))
    with monkeypatch.context() as patch:
        Clock(patch)
        stop_at(50)
        with pytest.raises(Stopped, match=r"after step 5\d of (\d+), and its state is saved") as stopped:
            train(tfrecords, logical_cpus[0], tmp_path, time_limit="1m")
    # Without the clock, another length would fit.
    _, result, resumed = train(tfrecords, logical_cpus[0], tmp_path, time_limit="1m")
    assert f"of {result.steps}," in str(stopped.value)
    _, _, expected = train(tfrecords, logical_cpus[0], duration=f"{result.steps} steps")
    for name, value in expected.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)


def test_a_checkpoint_gives_its_plan_to_its_own_training_only(tmp_path):
    planned = pace.TimePlan(1000, Pace(2.0, 1.0, 0.5, 3.0, 4.0))
    settings = TrainerSettings(time_limit="1h")
    variables = {"weight": tf.Variable(1.0)}
    saved = Checkpoints(str(tmp_path), "ours", keep=1)
    resuming.save(saved, settings, variables, resuming.Position(200, planned=planned))
    strategy = tf.distribute.get_strategy()
    own = resuming.restore(saved, settings, None, variables, strategy)
    assert (own.step, own.planned) == (200, planned)
    (path,) = tmp_path.rglob("*.npz")
    others = Checkpoints(str(tmp_path), "theirs", keep=1)
    changed = settings.model_copy(update={"from_checkpoint": str(path)})
    other = resuming.restore(others, changed, None, variables, strategy)
    assert (other.step, other.planned) == (200, None)


def test_a_training_that_becomes_slower_is_warned_of(caplog):
    training = loop._Training.__new__(loop._Training)
    training._settings = TrainerSettings(batch_size=100, time_limit="20m")
    training._plan = Plan.of(training._settings, 2000, 1000)
    planned = pace.TimePlan(1000, Pace(1.0, 1.0, 0.0, 0.0, 0.0))
    # A delay that the reserve covers is none, be it a long one of a short rest.
    for step, seconds, warnings in ((200, 104.0, 0), (990, 200.0, 0), (200, 150.0, 1)):
        training._position = resuming.Position(step, 0.0, resuming.Interval(100, seconds), planned=planned)
        training._warn_if_slower()
        assert len(caplog.messages) == warnings
    assert "took 50 % longer than when trainer.time_limit=20m was planned" in caplog.messages[0]
    assert "stays 1,000 steps" in caplog.messages[0]
    assert "ends about 7 min later" in caplog.messages[0]


def test_the_log_tells_early_how_long_a_training_takes(monkeypatch, caplog):
    caplog.set_level("INFO", "nnclr")
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for slower_later, told in (
        (False, "5,000 steps of 500 images take about 1 h 23 min (500 images/s)."),
        (True, "5,000 steps of 500 images take at least 1 h 23 min (500 images/s on smaller views)."),
    ):
        caplog.clear()
        estimate = Estimate(5000, 500, slower_later)
        # The first step, which compiles, does not count.
        for seconds in (60, *[1] * 30):
            now += seconds
            estimate.count_step()
        assert caplog.messages == [told]
