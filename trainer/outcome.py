"""The result of a finished training, and how it is written to disk."""

from dataclasses import dataclass

import tensorflow as tf

from trainer import export
from trainer.checkpoints import Checkpoints
from trainer.config import TrainerSettings
from trainer.model import NNCLR
from trainer.results import FIGURES_FILE, TrainingFigures
from trainer.stopping import StopRequest


@dataclass
class TrainingResult:
    """The result of a finished training.

    Attributes:
        image_size: Height and width of the images.
        steps: Number of optimiser steps.
        seconds: Time spent training, including before interruptions, without measurements.
        images_per_second: Images that were trained on in a second of training time.
        history: One row of metrics for each measurement.
        checkpoints: Checkpoints of the training, which still exist; None if there are none.
        is_chief: Whether this process writes the results, if several processes trained together.
    """

    image_size: tuple[int, int]
    steps: int
    seconds: float
    images_per_second: float
    history: list[dict[str, float]]
    checkpoints: Checkpoints | None
    is_chief: bool

    @property
    def final_loss(self) -> float:
        """Mean contrastive loss between the last two measurements."""
        return self.history[-1]["c_loss"]

    def figures(self) -> TrainingFigures:
        """The training in four numbers."""
        return TrainingFigures(
            steps=self.steps,
            seconds=self.seconds,
            images_per_second=self.images_per_second,
            final_loss=self.final_loss,
        )


def write(model: NNCLR, settings: TrainerSettings, result: TrainingResult, model_dir: str, run_dir: str) -> None:
    """Exports the encoder, writes the training's figures, and deletes the checkpoints, which are no longer needed.

    SIGTERM and Ctrl-C take effect after the export, because TensorFlow would turn them into other errors. The
    checkpoints are kept in that case, and the same command exports again.

    Args:
        model: The trained model.
        settings: Settings of the training.
        result: Result of the training.
        model_dir: Folder for the SavedModel.
        run_dir: Folder for `training.json`.

    Raises:
        Stopped: If SIGTERM came during the export.
        KeyboardInterrupt: If SIGINT came during the export.
    """
    if not result.is_chief:
        return
    with StopRequest() as stop:
        export.export_encoder(model.exported, settings, result.image_size, model_dir, result.figures())
        with tf.io.gfile.GFile(f"{run_dir}/{FIGURES_FILE}", "w") as file:
            file.write(result.figures().model_dump_json(indent=2))
    if stop.signal is not None:
        stop.end("The export was asked to stop. Run the same command again: the training itself is finished.")
    if result.checkpoints is not None:
        result.checkpoints.clear()
