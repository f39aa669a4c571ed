"""What a finished training comes to, and what is left of it on disk."""

import signal
from dataclasses import dataclass

import tensorflow as tf

from trainer import export
from trainer.checkpoints import Checkpoints
from trainer.config import TrainerSettings
from trainer.errors import Stopped
from trainer.model import NNCLR
from trainer.results import FIGURES_FILE, TrainingFigures
from trainer.stopping import StopRequest


@dataclass
class TrainingResult:
    """What a finished training has to tell.

    Attributes:
        image_size: height and width.
        steps: optimiser steps.
        seconds: spent training, before interruptions too, without measuring.
        images_per_second: while training.
        history: a row of metrics per measurement.
        checkpoints: of the training, still there; None if there were none.
        is_chief: whether this process writes, of several that trained together.
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
        """Mean contrastive loss since the measurement before the last."""
        return self.history[-1]["c_loss"]

    def figures(self) -> TrainingFigures:
        """The training in four numbers."""
        return TrainingFigures(
            steps=self.steps,
            seconds=self.seconds,
            images_per_second=self.images_per_second,
            final_loss=self.final_loss,
        )


def leave(model: NNCLR, settings: TrainerSettings, result: TrainingResult, model_dir: str, run_dir: str) -> None:
    """Exports the encoder, writes `training.json`, and deletes the checkpoints, which nobody needs from then on.

    SIGTERM and Ctrl-C are acted on after the export: raised inside TensorFlow they would surface as other errors. The
    checkpoints stay then, and the same command exports once more.

    Args:
        model: trained.
        settings: that it was trained with.
        result: of the training.
        model_dir: for the SavedModel.
        run_dir: for `training.json`.

    Raises:
        Stopped: SIGTERM came meanwhile.
        KeyboardInterrupt: SIGINT came meanwhile.
    """
    if not result.is_chief:
        return
    with StopRequest() as stop:
        export.export_encoder(model.encoder, settings, result.image_size, model_dir, result.figures())
        with tf.io.gfile.GFile(f"{run_dir}/{FIGURES_FILE}", "w") as file:
            file.write(result.figures().model_dump_json(indent=2))
    if stop.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if stop.signal is not None:
        raise Stopped("The export was asked to stop. Start the same command again: the training itself is over.")
    if result.checkpoints is not None:
        result.checkpoints.clear()
