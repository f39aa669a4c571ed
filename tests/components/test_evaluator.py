"""What is measured, and who is blessed."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.image_example_gen.encoding import to_example
from components.image_example_gen.sources.base import Picture
from components.linear_probe_evaluator import executor, gate, probes
from components.linear_probe_evaluator.config import EvaluatorSettings
from components.linear_probe_evaluator.probes import Labelled
from trainer import export
from trainer.config import TrainerSettings
from trainer.encoders import build_encoder

SETTINGS = TrainerSettings.model_validate({"encoder": {"width": 64}})


def clusters(seed: int, rows: int, spread: float, classes: int = 4) -> Labelled:
    """Gaussian clusters around the same centres whatever the seed."""
    centres = np.random.default_rng(0).normal(size=(classes, 6))
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    return Labelled((centres[labels] + spread * rng.normal(size=(rows, 6))).astype(np.float32), labels)


def test_probe_separates_clusters_and_reports_chance_for_noise():
    separable = probes.linear_probe(clusters(1, 200, 0.1), clusters(2, 100, 0.1), classes=4, seed=0)
    assert separable.accuracy == 1.0
    assert separable.recall == [1.0] * 4
    noise = probes.linear_probe(clusters(1, 400, 100.0), clusters(2, 400, 100.0), classes=4, seed=0)
    assert 0.15 < noise.accuracy < 0.35
    assert noise.interval[0] < noise.accuracy < noise.interval[1]
    # A binomial interval of 400 images is about +-4.2 points wide.
    assert 0.06 < noise.interval[1] - noise.interval[0] < 0.11


def test_probe_never_learns_from_the_test_split():
    train = clusters(1, 120, 1.0)
    test = clusters(2, 80, 1.0)
    shuffled = Labelled(test.features, np.random.default_rng(3).permutation(test.labels))
    honest = probes.linear_probe(train, test, 4, seed=0)
    misled = probes.linear_probe(train, shuffled, 4, seed=0)
    assert misled.strength == honest.strength
    assert misled.accuracy < honest.accuracy


def test_probe_is_blind_to_the_scale_of_features():
    train, test = clusters(1, 120, 0.8), clusters(2, 80, 0.8)
    scale = np.array([1e-3, 1, 1e3, 1, 10, 1], np.float32)
    scaled = probes.linear_probe(
        Labelled(train.features * scale, train.labels), Labelled(test.features * scale, test.labels), 4, seed=0
    )
    assert scaled.accuracy == pytest.approx(probes.linear_probe(train, test, 4, seed=0).accuracy, abs=0.03)


def test_class_that_test_lacks_has_recall_zero():
    test = clusters(2, 80, 0.1)
    some = test.labels != 3
    result = probes.linear_probe(clusters(1, 80, 0.1), Labelled(test.features[some], test.labels[some]), 4, seed=0)
    assert result.recall == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("accuracy", "untrained", "champion", "expected"),
    [
        (0.6, 0.3, None, []),
        (0.6, 0.3, ("m version 1", 0.605), []),
        (0.4, 0.3, None, ["below the floor 50.0%"]),
        (0.6, 0.6, None, ["not above an untrained encoder's 60.0%"]),
        (0.6, 0.3, ("m version 7", 0.7), ["falls behind the 70.0% of the champion m version 7 by more than 1.0%"]),
        (0.2, 0.3, ("m version 7", 0.7), ["floor", "untrained", "champion"]),
    ],
)
def test_gate_says_why_not_with_numbers(accuracy, untrained, champion, expected):
    settings = EvaluatorSettings(floor=0.5, tolerance=0.01)
    reasons = gate.reasons_against(settings, accuracy, untrained, champion)
    assert len(reasons) == len(expected)
    for reason, part in zip(reasons, expected, strict=True):
        assert part in reason
        assert f"{accuracy:.1%}" in reason


def write_examples(directory: Path, counts: dict[str, int]) -> str:
    """Coloured squares, whose colour is their class, as ImageExampleGen leaves them."""
    rng = np.random.default_rng(0)
    colours = np.array([[150, 0, 0], [0, 150, 0], [0, 0, 150]])
    for split, count in counts.items():
        (directory / f"Split-{split}").mkdir(parents=True)
        with tf.io.TFRecordWriter(str(directory / f"Split-{split}" / "data_tfrecord-00000-of-00001")) as writer:
            for i in range(count):
                image = (rng.integers(0, 30, (32, 32, 3)) + colours[i % 3]).astype(np.uint8)
                writer.write(to_example(Picture(split, i, f"{split}/{i}", image, i % 3), image))
    description = {"image_size": 32, "counts": counts, "class_names": ["red", "green", "blue"]}
    (directory / "dataset.json").write_text(json.dumps(description))
    return str(directory)


def export_model(directory: Path, seed: int, constant: bool = False) -> str:
    keras.utils.set_random_seed(seed)
    encoder = build_encoder(SETTINGS.encoder, (32, 32))
    if constant:
        encoder.set_weights([np.zeros_like(w) for w in encoder.get_weights()])
    export.export_encoder(encoder, SETTINGS, (32, 32), str(directory / "Format-Serving"), {})
    return str(directory)


@pytest.fixture
def no_champion(tmp_path) -> str:
    directory = tmp_path / "no-champion"
    directory.mkdir()
    (directory / "champion.json").write_text("{}")
    return str(directory)


def test_evaluation_of_real_models_with_and_without_champion(tmp_path, no_champion):
    examples_dir = write_examples(tmp_path / "examples", {"unlabelled": 3, "train": 60, "test": 30})
    model = f"{export_model(tmp_path / 'good', seed=1)}/Format-Serving"
    alone = executor.evaluate(EvaluatorSettings(floor=0.9), examples_dir, model, no_champion)
    assert alone["probe_accuracy"] == 1.0
    assert alone["class_accuracy"] == {"red": 1.0, "green": 1.0, "blue": 1.0}
    assert alone["baseline_accuracy"] is None
    # The untrained twin sees colours as well: a candidate must beat it, not equal it.
    assert alone["random_encoder_accuracy"] == 1.0
    assert alone["blessed"] is False
    assert len(alone["reasons"]) == 1

    collapsed = f"{export_model(tmp_path / 'bad', seed=1, constant=True)}/Format-Serving"
    (tmp_path / "good" / "champion.json").write_text(json.dumps({"name": "colours", "version": 4}))
    against = executor.evaluate(EvaluatorSettings(), examples_dir, collapsed, str(tmp_path / "good"))
    assert against["probe_accuracy"] == pytest.approx(1 / 3)
    assert against["baseline_accuracy"] == 1.0
    assert any("champion colours version 4" in reason for reason in against["reasons"])


def test_without_labels_nothing_is_blessed_and_it_says_so(tmp_path, no_champion):
    examples_dir = write_examples(tmp_path / "examples", {"unlabelled": 3, "train": 0, "test": 0})
    metrics = executor.evaluate(EvaluatorSettings(), examples_dir, str(tmp_path / "unused"), no_champion)
    assert metrics["blessed"] is False
    assert metrics["probe_accuracy"] is None
    assert "no labelled images" in metrics["reasons"][0]
