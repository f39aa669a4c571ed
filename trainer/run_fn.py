"""The function that TFX's Trainer calls, which passes Trainer's arguments to `trainer.loop`."""

import logging

import tensorflow as tf

from trainer import data, loop, outcome
from trainer.config import CHAMPION, TrainerSettings
from trainer.errors import SettingsError

SETTINGS = "settings"
CHECKPOINTS = "checkpoints"

logger = logging.getLogger("nnclr")


def run_fn(fn_args) -> None:
    """Trains on `train_files` (unlabelled) with an online probe on `eval_files` (labelled), and exports the encoder.

    Args:
        fn_args: A `tfx.components.FnArgs`. In its `custom_config`, `settings` is a `TrainerSettings` as JSON, and
            `checkpoints` is the folder for checkpoints of unfinished trainings. Its `base_model` is the champion, if
            the settings say to start from the champion.
    """
    settings = TrainerSettings.model_validate_json(fn_args.custom_config[SETTINGS])
    job = loop.Job(
        data.matching_files(fn_args.train_files),
        data.matching_files(fn_args.eval_files),
        run_dir=fn_args.model_run_dir,
        checkpoint_root=fn_args.custom_config[CHECKPOINTS],
        warm_start=_warm_start(settings, fn_args.base_model),
    )
    model, result = loop.train(settings, job)
    outcome.write(model, settings, result, fn_args.serving_model_dir, fn_args.model_run_dir)


def _warm_start(settings: TrainerSettings, base_model: str | None) -> str | None:
    if settings.warm_start != CHAMPION:
        return settings.warm_start
    if base_model is None or not tf.io.gfile.exists(base_model):
        encoder = settings.encoder
        other_start = encoder.is_pretrained or encoder.may_bring_weights or settings.from_checkpoint
        if (encoder.frozen or encoder.keeps_statistics) and not other_start:
            raise SettingsError(
                "There is no champion to start from yet, and trainer.encoder.frozen and "
                "trainer.encoder.batch_norm_statistics would keep random weights: set them once there is a champion, "
                "or name weights to start from in trainer.encoder.weights."
            )
        logger.info("There is no champion to start from yet: training starts as trainer.encoder says.")
        return None
    return base_model
