"""How a training continues from its last checkpoint."""

import dataclasses
import logging
from dataclasses import dataclass, field

import tensorflow as tf

from trainer import checkpoints
from trainer.config import TrainerSettings
from trainer.errors import SettingsError

logger = logging.getLogger("nnclr")


@dataclass
class Interval:
    """Sums of what happened since the last measurement.

    Attributes:
        steps: Number of steps.
        seconds: Time spent training.
        sums: Sum of each metric over the steps.
    """

    steps: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, metrics: dict[str, float]) -> None:
        """Adds the metrics of one step."""
        self.steps += 1
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """Returns the mean of each metric."""
        return {name: total / self.steps for name, total in self.sums.items()}


@dataclass
class Position:
    """How far a training has come, apart from its variables.

    Attributes:
        step: Number of optimiser steps done.
        seconds: Time spent training.
        interval: What happened since the last measurement.
        history: One row of metrics for each measurement.
    """

    step: int = 0
    seconds: float = 0.0
    interval: Interval = field(default_factory=Interval)
    history: list[dict[str, float]] = field(default_factory=list)


def key(settings: TrainerSettings, fingerprints: tuple[str, ...], start: str) -> str:
    """Returns the key of a training's checkpoints.

    Args:
        settings: Settings of the trainer. How often the state is saved and which devices compute do not count, because
            they do not change the training.
        fingerprints: Fingerprints of the images.
        start: Fingerprint of the weights that the training starts from; empty if they are random.
    """
    return checkpoints.key(settings.model_dump_json(exclude={"checkpoint", "devices"}), *fingerprints, start)


def restore(
    saved: checkpoints.Checkpoints | None, variables: dict[str, tf.Variable], strategy: tf.distribute.Strategy
) -> Position | None:
    """Restores the variables from the last checkpoint.

    Args:
        saved: The training's checkpoints; None if it has none.
        variables: All variables that the training changes, by name.
        strategy: The strategy that trains.

    Returns:
        The position of the checkpoint; None if there is no usable checkpoint.

    Raises:
        SettingsError: If several machines do not see the same checkpoint.
    """
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    checkpoint = saved.latest(shapes) if saved is not None else None
    _require_same_checkpoint(checkpoint.step if checkpoint else 0, strategy)
    if checkpoint is None:
        return None
    for name, variable in variables.items():
        variable.assign(checkpoint.arrays[name])
    journal = checkpoint.journal
    logger.info("Going on from %s, after step %d.", checkpoint.path, checkpoint.step)
    return Position(checkpoint.step, journal["seconds"], Interval(**journal["interval"]), journal["history"])


def save(saved: checkpoints.Checkpoints, variables: dict[str, tf.Variable], position: Position) -> None:
    """Saves a checkpoint of the variables and the position."""
    journal = dataclasses.asdict(position)
    step = journal.pop("step")
    saved.save(step, {name: variable.numpy() for name, variable in variables.items()}, journal)


def _require_same_checkpoint(step: int, strategy: tf.distribute.Strategy) -> None:
    def mean() -> tf.Tensor:
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, tf.constant(float(step)))

    shared = strategy.run(tf.function(mean, autograph=False))
    if float(strategy.experimental_local_results(shared)[0]) != step:
        raise SettingsError(
            f"The machines see different checkpoints (this one sees that of step {step}): give all machines the same "
            "folder, on a shared file system or in a bucket (gs://, s3://)."
        )
