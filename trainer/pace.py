"""How fast a training is on this machine, and how many of its steps fit into a time limit."""

import bisect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from trainer.config import TrainerSettings
from trainer.plan import Plan

#: The shares of a time limit that each measurement of the speed takes, and that are kept free as a reserve.
MEASURED_SHARE, RESERVED_SHARE = 0.03, 0.03

# A measurement takes no longer, unless a single step does.
_MOST_MEASURED_SECONDS = 30.0
# The first step compiles the graph, and the second one still allocates memory.
_UNTIMED_STEPS = 2
_MOST_STEPS = 10**9

_Step = TypeVar("_Step")


@dataclass(frozen=True)
class Pace:
    """What the parts of a training cost, in seconds.

    Attributes:
        step: A step.
        smaller_step: A step with smaller views (see `ProgressiveResizingSettings`).
        opening: The start of an epoch, until its first batch is there.
        measurement: A measurement on the fixed images.
        checkpoint: A checkpoint.
    """

    step: float
    smaller_step: float
    opening: float
    measurement: float
    checkpoint: float

    def of_steps(self, plan: Plan, first: int, last: int) -> float:
        """Returns how long the steps after the `first` steps of a plan take, up to and including the `last` one."""
        smaller = max(min(plan.smaller_views, last) - first, 0)
        epochs = -(-last // plan.steps_per_epoch) - -(-first // plan.steps_per_epoch)
        return smaller * self.smaller_step + (last - first - smaller) * self.step + epochs * self.opening

    def of_rest(self, plan: Plan, done: int) -> float:
        """Returns how long a training takes after `done` steps, with its measurements and checkpoints."""
        return (
            self.of_steps(plan, done, plan.steps)
            + _occasions(plan.steps, plan.watch_every, done) * self.measurement
            + _occasions(plan.steps, plan.checkpoint_every, done) * self.checkpoint
        )

    def steps_within(self, seconds: float, settings: TrainerSettings, images: int, done: int) -> int:
        """Returns the greatest length of a training, in steps, whose rest takes no longer than `seconds`.

        Args:
            seconds: The time for the rest of the training.
            settings: Settings of the trainer.
            images: Number of unlabelled images.
            done: Number of steps that are done already; the result if no further one fits.
        """
        lengths = range(done + 1, done + _MOST_STEPS)
        return done + bisect.bisect_right(
            lengths, seconds, key=lambda steps: self.of_rest(Plan.of(settings, images, steps), done)
        )


def _occasions(steps: int, every: int, done: int) -> int:
    """Counts what happens at every so manieth step after `done` steps, and after the last step in any case."""
    return -(-steps // every) - done // every


@dataclass(frozen=True)
class TimePlan:
    """The length of a training that fits into its time limit.

    Attributes:
        steps: Length of the training.
        pace: The speed that was measured.
    """

    steps: int
    pace: Pace


def seconds_per_step(
    launch: Callable[[], _Step], wait: Callable[[_Step], None], agree: Callable[[float], float], limit: float
) -> float:
    """Measures how long a step takes, without the first ones, as in a training: the next step is launched meanwhile.

    Args:
        launch: Starts a step.
        wait: Waits until a step is done.
        agree: Returns the least of the values that all machines give it, so that they take the same number of steps.
        limit: The time limit of the training in seconds.
    """

    def timed(steps: int) -> float:
        start, before = time.monotonic(), None
        for _ in range(steps):
            now = launch()
            if before is not None:
                wait(before)
            before = now
        if before is not None:
            wait(before)
        return time.monotonic() - start

    timed(_UNTIMED_STEPS)
    about = max(timed(1), 1e-9)
    steps = max(int(agree(min(MEASURED_SHARE * limit, _MOST_MEASURED_SECONDS) / about)), 1)
    return timed(steps) / steps
