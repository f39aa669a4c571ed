"""What is measured without labels, and when an encoder is blessed by it."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.champion_resolver.artifact import Champion
from components.data_gate.artifact import DataCheck
from components.image_example_gen import encoding
from components.image_example_gen.sources.base import Picture
from components.linear_probe_evaluator import label_free
from components.linear_probe_evaluator.artifact import Verdict, ViewQuality
from components.linear_probe_evaluator.config import EvaluatorSettings
from components.linear_probe_evaluator.evaluation import Inputs, RegisteredModel, evaluate
from components.linear_probe_evaluator.label_free import Measured
from tests.trainer.test_augmentation import STILL
from tests.trainer.test_stored_images import SHAPES, photograph
from trainer import examples, export
from trainer.config import AugmentationSettings, TrainerSettings
from trainer.encoders import build_encoder
from trainer.errors import DataError
from trainer.results import EncoderDescription

SIZE = (32, 32)
# A product of such weights overflows. NaN would not do: the ReLU of some processors makes it 0.
_TOO_LARGE = 1e30
SETTINGS = TrainerSettings.model_validate(
    {
        "encoder": {"width": 16, "pooling": "average"},
        "augmentation": {"crop_scale": (0.3, 1.0), "brightness": 0.3},
    }
)
CHAMPION = Champion(name="colours", version=4)


def write_images(directory: Path, images: list[np.ndarray], files: int = 1, kind: str = examples.RAW) -> list[str]:
    """Writes an artifact of ImageExampleGen without labelled images; returns its TFRecord files."""
    folder = directory / "Split-unlabelled"
    folder.mkdir(parents=True)
    paths = [folder / f"data_tfrecord-{shard:05d}-of-{files:05d}" for shard in range(files)]
    for shard, path in enumerate(paths):
        with tf.io.TFRecordWriter(str(path)) as writer:
            for i in range(shard, len(images), files):
                picture = Picture("unlabelled", i, f"unlabelled/{i}", images[i], 0)
                writer.write(encoding.to_example(picture, images[i], SIZE[0], kind))
    counts = {"unlabelled": len(images), "train": 0, "test": 0}
    described = {"image_size": SIZE[0], "counts": counts, "source": "pictures", "fingerprint": "f00d"}
    (directory / "dataset.json").write_text(json.dumps(described))
    return [str(path) for path in paths]


def noisy_colours(count: int) -> list[np.ndarray]:
    """Draws images that differ in their mean colour, which strong noise hides from an untrained encoder."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 120, (count, 1, 1, 3))
    return list((rng.integers(0, 130, (count, *SIZE, 3)) + colours).astype(np.uint8))


def export_encoder(directory: Path, kind: str) -> str:
    """Exports an encoder: `untrained`, `constant`, one that returns the mean `colour` of an image, or `infinite`."""
    keras.utils.set_random_seed(1)
    encoder = build_encoder(SETTINGS.encoder, SIZE)
    weights = encoder.get_weights()
    if kind == "colour":
        for i, kernel in enumerate(weights):
            weights[i] = np.zeros_like(kernel)
            if kernel.ndim == 4:
                # Each convolution averages each colour over its window.
                weights[i][:, :, range(3), range(3)] = 1 / kernel.shape[0] ** 2
    elif kind != "untrained":
        weights = [np.full_like(weight, _TOO_LARGE if kind == "infinite" else 0.0) for weight in weights]
    encoder.set_weights(weights)
    export.export_encoder(encoder, SETTINGS, SIZE, str(directory / kind))
    return str(directory / kind)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("models")
    return {kind: export_encoder(directory, kind) for kind in ("untrained", "constant", "colour", "infinite")}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> str:
    directory = tmp_path_factory.mktemp("images") / "examples"
    write_images(directory, noisy_colours(150), files=3)
    return str(directory)


@pytest.fixture(scope="module")
def measured(images, models) -> dict[str, Measured]:
    """All encoders, measured on the same views."""
    roles = {"candidate": "colour", "untrained": "untrained", "champion": "constant", "best_release": "infinite"}
    files = sorted(str(path) for path in Path(images).glob("Split-unlabelled/*"))
    found = label_free.measure({role: models[kind] for role, kind in roles.items()}, files, 150, seed=0)
    return {kind: found[role] for role, kind in roles.items()}


def judged(models: dict[str, Measured], **settings) -> Verdict:
    registered = {role: CHAMPION for role in models if role not in ("candidate", "untrained")}
    requirements = EvaluatorSettings(**{"without_labels": "compare"} | settings)
    return label_free.verdict(requirements, models, label_free.figures(models), registered, {})


def missed(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.checks if not check.passed]


def test_a_good_encoder_is_blessed_only_if_a_comparison_without_labels_is_allowed(measured):
    models = {"candidate": measured["colour"], "untrained": measured["untrained"]}
    found = label_free.figures(models)
    assert (found.images, found.views, found.champion) == (150, 8, None)
    assert found.candidate.neighbour_consistency > 0.8
    assert found.untrained.neighbour_consistency < 0.2
    assert found.candidate.alignment < found.untrained.alignment
    # Three mean colours, of which the length of the embedding is lost.
    assert 1.5 < found.candidate.lidar < 3.5
    assert found.over_untrained.low > 0.5

    refused = judged(models, without_labels="refuse", floor=0.9)
    assert missed(refused) == ["labels"]
    for way_out in ("Name a labelled set with evaluator.data", "set evaluator.without_labels to compare"):
        assert way_out in refused.reasons[0]
    blessed = judged(models)
    assert blessed.blessed
    sentences = " ".join(check.sentence for check in blessed.checks)
    assert "whether it separates your classes is unknown without labels" in sentences
    assert "of an untrained encoder significantly" in sentences


def test_untrained_collapsed_and_worse_encoders_are_not_blessed(measured):
    untrained = measured["untrained"]
    constant = judged({"candidate": measured["constant"], "untrained": untrained, "champion": measured["colour"]})
    assert measured["constant"].quality.neighbour_consistency == 0
    assert missed(constant) == ["collapse", "beat_untrained", "champion"]
    assert (constant.champion, constant.champion_version) == ("colours version 4", 4)
    assert missed(judged({"candidate": measured["constant"], "untrained": untrained}, without_labels="refuse")) == [
        "labels",
        "collapse",
    ]
    assert missed(judged({"candidate": untrained, "untrained": untrained})) == ["beat_untrained"]
    broken = {"candidate": measured["infinite"], "untrained": untrained}
    assert measured["infinite"].not_finite == 150
    assert missed(judged(broken)) == ["embeddings", "collapse", "beat_untrained"]


def test_an_evaluation_without_labels_cannot_pass_a_champion_that_gives_no_embeddings(tmp_path, images, models):
    inputs = Inputs(
        pretraining=images,
        labelled=images,
        model=models["colour"],
        champion=RegisteredModel(CHAMPION, models["infinite"]),
        scratch=str(tmp_path / "scratch"),
        local_scratch=tmp_path,
        data_checks=(
            DataCheck(name="noise", passed=True, sentences=("There is no noise.",)),
            DataCheck(name="drift", passed=False, sentences=("The height differs.",)),
        ),
    )
    result = evaluate(EvaluatorSettings(without_labels="compare"), inputs)
    assert (result.candidate, result.probe) == (None, None)
    found = result.metrics
    assert (found.probe_accuracy, found.embedding_size, found.champion_version) == (None, 16, 4)
    assert found.label_free.candidate.neighbour_consistency > 0.8
    assert (found.label_free.champion, found.label_free.over_champion) == (None, None)
    assert missed(found) == ["champion_problem"]
    assert "gives no finite embedding of 150 unlabelled images" in found.reasons[0]
    assert "--accept-baseline-reset" in found.reasons[0]
    assert found.findings == ("The height differs.", label_free.BIAS)
    assert found.data_checks == inputs.data_checks


def test_nothing_to_measure_on_is_said(tmp_path):
    write_images(tmp_path / "examples", noisy_colours(1))
    directory = str(tmp_path / "examples")
    with pytest.raises(DataError, match="no labelled images and fewer than two unlabelled ones"):
        evaluate(EvaluatorSettings(), Inputs(directory, directory, "unused", None, str(tmp_path), tmp_path))


def of_share(hits: int, images: int = 400) -> Measured:
    share = hits / images
    quality = ViewQuality(
        neighbour_consistency=share, interval=(share, share), alignment=0.5, uniformity=-2, rank_me=12, lidar=12
    )
    return Measured(quality, np.arange(images) < hits, 0, 32)


def test_small_losses_do_not_add_up_over_the_releases():
    models = {"candidate": of_share(300), "untrained": of_share(100), "champion": of_share(301)}
    assert missed(judged(models, tolerance=0.02)) == []
    assert missed(judged(models | {"best_release": of_share(320)}, tolerance=0.02)) == ["best_release"]


def test_references_cannot_be_beaten_without_labels():
    models = {"candidate": of_share(300), "untrained": of_share(100)}
    found = judged(models, must_beat=("supervised",), references={"supervised": {}})
    assert missed(found) == ["needs_labels"]
    assert "evaluator.must_beat cannot be checked without labelled images: set it to []" in found.reasons[0]


@pytest.mark.parametrize(
    ("settings", "champion", "expected"),
    [
        ({}, None, []),
        ({"floor": 0.5}, None, ["needs_labels"]),
        ({"floor": 0.0}, None, []),
        ({"floor": 0.5, "least_recall": 0.1}, None, ["needs_labels", "needs_labels"]),
        ({"least_test_images": 401}, None, ["least_test_images"]),
        ({}, 300, []),
        ({"tolerance": 0.01}, 330, ["champion"]),
        ({"tolerance": None}, 390, []),
        ({"beat_untrained": False}, 300, []),
    ],
)
def test_no_requirement_is_silently_left_out(settings, champion, expected):
    models = {"candidate": of_share(300), "untrained": of_share(100 if settings.get("beat_untrained", True) else 350)}
    found = judged(models | ({"champion": of_share(champion)} if champion else {}), **settings)
    assert missed(found) == expected
    assert found.blessed is (not expected)
    assert all(f"evaluator.{name}" in " ".join(found.reasons) for name in settings if expected)


def test_the_sample_is_drawn_at_random_from_all_files_and_views_are_those_of_the_stored_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(label_free, "_MOST_IMAGES", 12)
    pictures = []
    for i in range(40):
        # The red of a picture is its number, and its green increases from left to right.
        picture = np.full([*SHAPES[i % len(SHAPES)], 3], 6 * i, np.uint8)
        picture[..., 1] = np.linspace(0, 255, picture.shape[1])
        pictures.append(picture)
    files = write_images(tmp_path / "examples", pictures, files=4)
    settings = SETTINGS.model_copy(update={"augmentation": AugmentationSettings(**STILL)})
    still = EncoderDescription(image_size=SIZE, settings=settings)

    def drawn(seed: int, batch: int) -> list[np.ndarray]:
        monkeypatch.setattr(export, "batch_of", lambda size: 8 * batch)
        return list(label_free._views(still, files, 40, 12, seed))

    views = np.concatenate(drawn(0, 12))
    assert views.shape == (12, 8, *SIZE, 3)
    numbers = np.round(views[..., 0].mean(axis=(1, 2, 3)) / 6).astype(int)
    assert len(set(numbers)) == 12
    assert len(set(numbers % 4)) == 4
    assert np.ptp(numbers) > 20
    # A square view shows another part of a wide picture each time, and all of a square one.
    parts = np.ptp(views[..., 1].mean(axis=(2, 3)), axis=1)
    wide = np.array([SHAPES[number % 4][1] > SHAPES[number % 4][0] for number in numbers])
    assert parts[wide].min() > 20
    assert parts[~wide].max() < 2
    in_small_batches = drawn(0, 2)
    assert {len(batch) for batch in in_small_batches} == {2}
    np.testing.assert_array_equal(np.concatenate(in_small_batches), views)
    assert not np.array_equal(np.concatenate(drawn(1, 12)), views)


def test_views_are_those_of_the_candidates_training(tmp_path):
    files = write_images(tmp_path / "examples", [photograph(i, 48, 64) for i in range(4)], kind=examples.JPEG)
    changed = SETTINGS.augmentation.model_copy(update={"grey": 1.0, "blur": (0.0, 1.0), "blur_sigma": (60.0, 60.0)})
    described = EncoderDescription(image_size=SIZE, settings=SETTINGS.model_copy(update={"augmentation": changed}))
    (views,) = label_free._views(described, files, 4, 4, 0)
    assert np.ptp(views.astype(int), axis=-1).max() <= 1
    # As in training, the settings of the first and of the second view alternate.
    sharpness = np.abs(np.diff(views.astype(int), axis=2)).mean(axis=(0, 2, 3, 4))
    assert sharpness[0::2].min() > sharpness[1::2].max()
