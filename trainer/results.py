"""What a training leaves behind for others to read: its figures, and the description beside an exported encoder."""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from trainer.config import TrainerSettings

#: Name of the file in a training's run folder that holds `TrainingFigures` as JSON.
FIGURES_FILE = "training.json"


class TrainingFigures(BaseModel):
    """A finished training in four numbers.

    Attributes:
        steps: Number of optimiser steps.
        seconds: Time spent training, including before interruptions, without measurements.
        images_per_second: Images that were trained on in a second of training time.
        final_loss: Mean contrastive loss between the last two measurements.
    """

    model_config = ConfigDict(frozen=True)

    steps: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    final_loss: float = 0.0


class EncoderDescription(BaseModel):
    """What is written as JSON beside an exported encoder.

    Attributes:
        image_size: Height and width in pixels of the images that the encoder was trained on.
        settings: Settings of the training.
        training: Figures of the training; None if the encoder was not trained.
        class_names: Names of the classes that the model predicts; empty if it has no classifier.
    """

    model_config = ConfigDict(frozen=True)

    image_size: tuple[int, int]
    settings: TrainerSettings
    training: TrainingFigures | None = None
    class_names: tuple[str, ...] = ()

    @field_validator("training", mode="before")
    @classmethod
    def _read_no_figures_as_none(cls, training: Any) -> Any:
        # Earlier versions wrote an empty object beside an untrained encoder.
        return training or None
