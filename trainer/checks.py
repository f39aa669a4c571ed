"""The checks of a training that need nothing but its settings, the number of images and the number of devices."""

import logging

from trainer import devices, splits
from trainer.config import TrainerSettings
from trainer.errors import DataError, SettingsError
from trainer.plan import Plan

logger = logging.getLogger("nnclr")

# With fewer, most images of a part are easy to tell apart, and the loss teaches little.
_ENOUGH_NEGATIVES = 31
# The rate of Adam at which a pretrained network was hardly better after the training than before, and the best one that
# was tried (python -m tests.benchmarks.pretrained_start).
_HIGH_RATE, _LOW_RATE = 1e-3, 1e-4


def check(settings: TrainerSettings, images: int, replicas: int) -> None:
    """Refuses a training that cannot work, before anything is built for it, and warns of one that works badly.

    Args:
        settings: Settings of the trainer.
        images: Number of unlabelled images.
        replicas: Number of devices that share each batch.

    Raises:
        DataError: If there are fewer images than one batch.
        SettingsError: If the devices cannot share a batch evenly, if XLA is on and there are several devices, or if the
            warm-up takes the whole training (unless a time limit decides on its length).
    """
    if settings.xla:
        devices.require_one_device_for_xla(replicas)
    _require_even_shares(settings, replicas)
    _require_a_whole_batch(settings, images)
    if settings.time_limit is None:
        require_training_after_warmup(settings, Plan.of(settings, images))
    _warn_of_few_negatives(settings)
    _warn_of_a_high_rate(settings)


def _require_even_shares(settings: TrainerSettings, replicas: int) -> None:
    accumulate, probe_batch = settings.accumulate, settings.online_probe.batch_size
    devices_and_parts = f"{replicas} devices" + (f" and trainer.accumulate={accumulate}" if accumulate > 1 else "")
    for name, batch, parts, sharers in (
        ("trainer.batch_size", settings.batch_size, replicas * accumulate, devices_and_parts),
        ("trainer.online_probe.batch_size", probe_batch, replicas, f"{replicas} devices"),
    ):
        if batch % parts:
            raise SettingsError(
                f"{name} is {batch}, which {sharers} cannot share evenly: "
                f"set it to a multiple of {parts}, for instance {batch + parts - batch % parts}."
            )


def _require_a_whole_batch(settings: TrainerSettings, images: int) -> None:
    if images < settings.batch_size:
        raise DataError(
            f"The split `{splits.UNLABELLED}` has {images} images, fewer than one batch of "
            f"{settings.batch_size}: add images or set trainer.batch_size to at most {images}."
        )


def require_training_after_warmup(settings: TrainerSettings, plan: Plan) -> None:
    """Refuses a warm-up that takes the whole training. With a time limit, its length is known later than the rest.

    Raises:
        SettingsError: If no step is left after the warm-up.
    """
    if plan.warmup >= plan.steps:
        raise SettingsError(
            f"trainer.optimizer.warmup is {settings.optimizer.warmup}, which is {plan.warmup} steps, and the whole "
            f"training has {plan.steps}: make it shorter, or train longer."
        )


def _warn_of_few_negatives(settings: TrainerSettings) -> None:
    negatives = settings.batch_size // settings.accumulate - 1
    if negatives < _ENOUGH_NEGATIVES:
        divided = f" divided by trainer.accumulate={settings.accumulate}" if settings.accumulate > 1 else ""
        logger.warning(
            "Each image has only %d negatives, from trainer.batch_size=%d%s: expect little of the encoder.",
            negatives,
            settings.batch_size,
            divided,
        )


def _warn_of_a_high_rate(settings: TrainerSettings) -> None:
    optimizer, rate = settings.optimizer, settings.optimizer.peak(settings.batch_size)
    starts_there = settings.encoder.is_pretrained and not (settings.warm_start or settings.from_checkpoint)
    if starts_there and optimizer.name in ("adam", "adamw") and rate >= _HIGH_RATE:
        logger.warning(
            "The learning rate is %g, at which training hardly improved a pretrained network: set "
            "trainer.optimizer.learning_rate to about %g (docs/training.md, Starting from a pretrained network).",
            rate,
            _LOW_RATE * optimizer.learning_rate / rate,
        )
