"""The training counted in optimiser steps: how many, and when something happens."""

from dataclasses import dataclass

from trainer import examples
from trainer.config import TrainerSettings
from trainer.duration import in_steps
from trainer.errors import DataError, SettingsError


@dataclass(frozen=True)
class Plan:
    """All in optimiser steps; see `TrainerSettings` for what each is."""

    steps_per_epoch: int
    steps: int
    warmup: int
    small_views: int
    watch_every: int
    checkpoint_every: int

    @classmethod
    def of(cls, settings: TrainerSettings, images: int) -> "Plan":
        """Converts the settings' durations for a split of so many unlabelled images.

        Raises:
            DataError: there are fewer images than one batch.
            SettingsError: the warm-up takes the whole training.
        """
        if images < settings.batch_size:
            raise DataError(
                f"The split `{examples.UNLABELLED}` has {images} images, fewer than one batch of "
                f"{settings.batch_size}: add images or set trainer.batch_size to at most {images}."
            )
        steps_per_epoch = images // settings.batch_size

        def steps(duration: str) -> int:
            return in_steps(duration, settings.batch_size, steps_per_epoch)

        resizing, total = settings.progressive_resizing, max(steps(settings.length), 1)
        plan = cls(
            steps_per_epoch,
            total,
            steps(settings.optimizer.warmup),
            round(resizing.until * total) if resizing.size < 1 else 0,
            max(steps(settings.watch.every), 1),
            max(steps(settings.checkpoint.every), 1),
        )
        if plan.warmup >= plan.steps:
            raise SettingsError(
                f"trainer.optimizer.warmup is {settings.optimizer.warmup}, which is {plan.warmup} steps, and the whole "
                f"training has {plan.steps}: make it shorter, or train longer."
            )
        return plan

    def place(self, step: int) -> tuple[int, int]:
        """Epoch, from 1 on, and batch within it, from 0 on, that comes after `step` steps."""
        return step // self.steps_per_epoch + 1, step % self.steps_per_epoch

    @property
    def epochs(self) -> int:
        """Passes over the images, the last perhaps not whole."""
        return -(-self.steps // self.steps_per_epoch)
