"""The schedule of a training in optimiser steps."""

from dataclasses import dataclass

from trainer.config import TrainerSettings
from trainer.duration import in_steps


@dataclass(frozen=True)
class Plan:
    """Lengths and intervals of a training, all in optimiser steps.

    Attributes:
        steps_per_epoch: Whole batches in one pass over the images.
        steps: Length of the training.
        warmup: Length of the learning rate's linear rise.
        smaller_views: Number of first steps whose views are smaller (see `ProgressiveResizingSettings`).
        watch_every: Interval between measurements.
        checkpoint_every: Interval between checkpoints.
    """

    steps_per_epoch: int
    steps: int
    warmup: int
    smaller_views: int
    watch_every: int
    checkpoint_every: int

    @classmethod
    def of(cls, settings: TrainerSettings, images: int, length: int | None = None) -> "Plan":
        """Converts the durations in the settings for a given number of unlabelled images.

        The plan of settings that `trainer.checks.check` refuses need not make sense.

        Args:
            settings: Settings of the trainer.
            images: Number of unlabelled images.
            length: Number of steps of the training; by default that of the settings. With a time limit, that is only a
                placeholder until the speed is known.
        """
        steps_per_epoch = images // settings.batch_size

        def steps(duration: str) -> int:
            return in_steps(duration, settings.batch_size, steps_per_epoch)

        resizing, total = settings.progressive_resizing, length or max(steps(settings.length), 1)
        return cls(
            steps_per_epoch=steps_per_epoch,
            steps=total,
            warmup=steps(settings.optimizer.warmup),
            smaller_views=round(resizing.until * total) if resizing.size < 1 else 0,
            watch_every=max(steps(settings.watch.every), 1),
            checkpoint_every=max(steps(settings.checkpoint.every), 1),
        )

    def epoch_and_batch(self, step: int) -> tuple[int, int]:
        """Returns the epoch, counted from 1, and the batch in it, counted from 0, that follow `step` steps."""
        return step // self.steps_per_epoch + 1, step % self.steps_per_epoch

    @property
    def epochs(self) -> int:
        """Number of passes over the images; the last one may be incomplete."""
        return -(-self.steps // self.steps_per_epoch)
