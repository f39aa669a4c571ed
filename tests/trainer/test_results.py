"""What a training leaves for others is read without TensorFlow, also from files of earlier versions."""

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from trainer.config import TrainerSettings
from trainer.results import EncoderDescription, TrainingFigures

WRITTEN = {"image_size": [32, 48], "settings": TrainerSettings().model_dump(mode="json")}
FIGURES = {"steps": 12, "seconds": 3.5, "images_per_second": 100.0, "final_loss": 2.5}


def test_a_description_is_read_back_as_it_was_written():
    description = EncoderDescription(
        image_size=(32, 48), settings=TrainerSettings(), training=TrainingFigures(steps=12), class_names=("cat", "dog")
    )
    assert EncoderDescription.model_validate_json(description.model_dump_json()) == description


@pytest.mark.parametrize(
    ("training", "expected"), [(FIGURES, TrainingFigures(**FIGURES)), ({}, None)], ids=["trained", "untrained"]
)
def test_descriptions_of_earlier_versions_are_read(training, expected):
    description = EncoderDescription.model_validate_json(json.dumps(WRITTEN | {"training": training}))
    assert (description.image_size, description.training, description.class_names) == ((32, 48), expected, ())
    assert description.settings == TrainerSettings()


def test_unknown_settings_are_refused():
    settings = WRITTEN["settings"] | {"momentum_encoder": True}
    with pytest.raises(ValidationError, match="momentum_encoder"):
        EncoderDescription.model_validate(WRITTEN | {"settings": settings})


def test_results_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        TrainingFigures().steps = 1


def test_reading_results_needs_no_tensorflow():
    code = "import sys, trainer.results; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
