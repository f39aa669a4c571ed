"""How a training continues from its last checkpoint."""

import dataclasses
import json
import logging
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from trainer import checkpoints, precision, settings_tree
from trainer.config import TrainerSettings
from trainer.errors import SettingsError
from trainer.pace import Pace, TimePlan

logger = logging.getLogger("nnclr")

# Key of the settings in the journal of a checkpoint.
_SETTINGS = "settings"
_NAMED_CHECKPOINTS, _NAMED_SETTINGS = 2, 3


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
        planned: The length that fits into `trainer.time_limit`; None until it is known, and without a limit.
    """

    step: int = 0
    seconds: float = 0.0
    interval: Interval = field(default_factory=Interval)
    history: list[dict[str, float]] = field(default_factory=list)
    planned: TimePlan | None = None

    @classmethod
    def of(cls, step: int, journal: dict[str, Any]) -> "Position":
        """Returns the position that the journal of a checkpoint describes."""
        planned = journal.get("planned")
        return cls(
            step,
            journal["seconds"],
            Interval(**journal["interval"]),
            journal["history"],
            TimePlan(planned["steps"], Pace(**planned["pace"])) if planned else None,
        )


def key(settings: TrainerSettings, fingerprints: tuple[str, ...], start: str) -> str:
    """Returns the key of a training's checkpoints.

    Args:
        settings: Settings of the trainer. When the state is measured and saved, and which devices compute, do not
            count, because they do not change the training. The precision counts as it is on this machine.
        fingerprints: Fingerprints of the images.
        start: Fingerprint of the weights that the training starts from; empty if they are random.
    """
    return checkpoints.key(json.dumps(_counting(settings)), *fingerprints, start)


def _counting(settings: TrainerSettings) -> dict[str, Any]:
    """Returns the settings that count for the key."""
    return settings.model_dump(mode="json", exclude={"checkpoint", "devices", "watch"}) | {
        "precision": precision.compute_dtype(settings.precision)
    }


def restore(
    saved: checkpoints.Checkpoints | None,
    settings: TrainerSettings,
    steps: int | None,
    variables: dict[str, tf.Variable],
    strategy: tf.distribute.Strategy,
) -> Position | None:
    """Restores the variables from the last checkpoint, or from that of `trainer.from_checkpoint` if there is none.

    Args:
        saved: The training's checkpoints; None if it has none.
        settings: Settings of the trainer.
        steps: Length of the training; None if it depends on the position.
        variables: All variables that the training changes, by name.
        strategy: The strategy that trains.

    Returns:
        The position of the checkpoint; None if there is no usable checkpoint.

    Raises:
        SettingsError: If `trainer.from_checkpoint` cannot be used, or if several machines do not see the same
            checkpoint.
    """
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    checkpoint = saved.latest(shapes) if saved is not None else None
    if checkpoint is None and settings.from_checkpoint is not None:
        checkpoint = checkpoints.read(settings.from_checkpoint, shapes)
        # The time limit of another training, if there was one, was for that one.
        checkpoint.journal.pop("planned", None)
        if steps is not None and checkpoint.step >= steps:
            raise SettingsError(
                f"trainer.from_checkpoint: {checkpoint.path} is of step {checkpoint.step}, and the training has only "
                f"{steps} steps: train longer."
            )
    _require_same_checkpoint(checkpoint.step if checkpoint else 0, strategy)
    if checkpoint is None:
        if saved is not None:
            _name_other_checkpoints(saved, settings)
        return None
    for name, variable in variables.items():
        variable.assign(checkpoint.arrays[name])
    logger.info("Going on from %s, after step %d.", checkpoint.path, checkpoint.step)
    return Position.of(checkpoint.step, checkpoint.journal)


def save(
    saved: checkpoints.Checkpoints, settings: TrainerSettings, variables: dict[str, tf.Variable], position: Position
) -> None:
    """Saves a checkpoint of the variables, the position and the settings."""
    journal = dataclasses.asdict(position) | {_SETTINGS: _counting(settings)}
    step = journal.pop("step")
    saved.save(step, {name: variable.numpy() for name, variable in variables.items()}, journal)


def _name_other_checkpoints(saved: checkpoints.Checkpoints, settings: TrainerSettings) -> None:
    """Logs how to go on from a checkpoint of other settings or images, so that nobody starts again by mistake."""
    ours = settings_tree.flattened(_counting(settings))
    found = []
    for path, step, journal in saved.of_other_trainings():
        other = settings_tree.flattened(journal.get(_SETTINGS, {}))
        names = sorted(name for name in other.keys() | ours.keys() if other.get(name) != ours.get(name))
        found.append((names, other, path, step))
    # Those that differ least are the ones that the user may have meant.
    for names, other, path, step in sorted(found, key=lambda one: len(one[0]))[:_NAMED_CHECKPOINTS]:
        differing = (
            ", ".join(f"{name} ({other.get(name)}, now {ours.get(name)})" for name in names[:_NAMED_SETTINGS])
            or "the images"
        )
        logger.info(
            "This training starts anew. A training that differs in %s%s has a checkpoint after step %d; to go on from "
            "there, set trainer.from_checkpoint=%s.",
            differing,
            " and more" if len(names) > _NAMED_SETTINGS else "",
            step,
            path,
        )


def _require_same_checkpoint(step: int, strategy: tf.distribute.Strategy) -> None:
    def mean() -> tf.Tensor:
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, tf.constant(float(step)))

    shared = strategy.run(tf.function(mean, autograph=False))
    if float(strategy.experimental_local_results(shared)[0]) != step:
        raise SettingsError(
            f"The machines see different checkpoints (this one sees that of step {step}): give all machines the same "
            "folder, on a shared file system or in a bucket (gs://, s3://)."
        )
