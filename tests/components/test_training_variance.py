"""Trainings that differ in nothing but the seed show how much training varies."""

import keras
import numpy as np

from components.linear_probe_evaluator import training_variance
from trainer import export
from trainer.config import TrainerSettings
from trainer.encoders import build_encoder


def exported(directory: str, seed: int, **changes) -> str:
    settings = TrainerSettings.model_validate({"encoder": {"width": 4}, "seed": seed} | changes)
    keras.utils.set_random_seed(seed)
    export.export_encoder(build_encoder(settings.encoder, (32, 32)), settings, (32, 32), directory)
    return directory


def test_the_deviation_of_repeated_trainings_stands_beside_that_of_the_test_images(tmp_path):
    models = {
        "a": exported(f"{tmp_path}/a", 1),
        "b": exported(f"{tmp_path}/b", 2, watch={"patience": 9}),
        "other": exported(f"{tmp_path}/other", 3, temperature=0.2),
        "foreign": str(tmp_path),
    }
    rng = np.random.default_rng(0)
    equal = {name: rng.random(10_000) < 0.5 for name in models}
    (sentence,) = training_variance.sentences(models, equal)
    assert sentence.startswith("a, b differ in nothing but the seed of the training and the images. Their accuracies, ")
    # Independent hits with a probability of 1/2 deviate by 0.5 points on 10,000 images.
    assert sentence.endswith("equally good encoders would have one of 0.5 points on 10,000 test images.")
    better = equal | {"b": equal["a"] | (rng.random(10_000) < 0.1)}
    (sentence,) = training_variance.sentences(models, better)
    gained = (better["b"].mean() - better["a"].mean()) * 100
    assert f"a standard deviation of {gained / np.sqrt(2):.1f} points" in sentence
    assert training_variance.sentences({"a": models["a"], "other": models["other"]}, equal) == []
