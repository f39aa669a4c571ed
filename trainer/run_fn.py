"""What TFX's Trainer calls: the bridge from its arguments to `trainer.loop`."""

import json

import tensorflow as tf

from trainer import data, export, loop
from trainer.config import TrainerSettings

SETTINGS = "settings"


def run_fn(fn_args) -> None:
    """Trains on `train_files` (unlabelled), watches on `eval_files` (labelled) and exports the encoder.

    Args:
        fn_args: `tfx.components.FnArgs`; `custom_config["settings"]` is a `TrainerSettings` as JSON.
    """
    settings = TrainerSettings.model_validate_json(fn_args.custom_config[SETTINGS])
    model, result = loop.train(
        settings,
        data.matching_files(fn_args.train_files),
        data.matching_files(fn_args.eval_files),
        run_dir=fn_args.model_run_dir,
    )
    training = {
        "steps": result.steps,
        "seconds": result.seconds,
        "images_per_second": result.images_per_second,
        "final_loss": result.final_loss,
    }
    export.export_encoder(model.encoder, settings, fn_args.serving_model_dir, training)
    with tf.io.gfile.GFile(f"{fn_args.model_run_dir}/training.json", "w") as file:
        file.write(json.dumps(training, indent=2))
