"""What is measured without labels, and when an encoder is blessed by it."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.champion_resolver.artifact import Champion
from components.image_example_gen import encoding
from components.image_example_gen.sources.base import Picture
from components.linear_probe_evaluator import label_free
from components.linear_probe_evaluator.artifact import ViewQuality
from components.linear_probe_evaluator.config import EvaluatorSettings
from components.linear_probe_evaluator.evaluation import Evaluation, Inputs, RegisteredModel, evaluate
from components.linear_probe_evaluator.label_free import Measured
from tests.trainer.test_augmentation import STILL
from tests.trainer.test_stored_images import SHAPES, photograph
from trainer import examples, export, fitting
from trainer.config import TrainerSettings
from trainer.encoders import build_encoder
from trainer.results import EncoderDescription

SIZE = (32, 32)
SETTINGS = TrainerSettings.model_validate(
    {
        "encoder": {"width": 16, "pooling": "average"},
        "augmentation": {"crop_scale": (0.3, 1.0), "brightness": 0.3},
    }
)
COMPARE = EvaluatorSettings(without_labels="compare")
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
    """Exports an encoder that is `untrained`, `constant`, returns the mean `colour` of an image, or `nan`."""
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
        weights = [np.full_like(weight, np.nan if kind == "nan" else 0.0) for weight in weights]
    encoder.set_weights(weights)
    export.export_encoder(encoder, SETTINGS, SIZE, str(directory / kind))
    return str(directory / kind)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("models")
    return {kind: export_encoder(directory, kind) for kind in ("untrained", "constant", "colour", "nan")}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> str:
    directory = tmp_path_factory.mktemp("images") / "examples"
    write_images(directory, noisy_colours(150), files=3)
    return str(directory)


def evaluated(directory: Path, images: str, model: str, champion: str | None = None, **settings) -> Evaluation:
    inputs = Inputs(
        pretraining=images,
        labelled=images,
        model=model,
        champion=RegisteredModel(CHAMPION, champion) if champion else None,
        scratch=str(directory / "scratch"),
        local_scratch=directory,
    )
    return evaluate(EvaluatorSettings(**settings), inputs)


def missed(found: Evaluation) -> list[str]:
    return [check.name for check in found.metrics.checks if not check.passed]


def test_a_good_encoder_is_blessed_only_if_a_comparison_without_labels_is_allowed(tmp_path, images, models):
    metrics = (refused := evaluated(tmp_path, images, models["colour"])).metrics
    found = metrics.label_free
    assert (found.images, found.views, metrics.embedding_size) == (150, 8, 16)
    assert found.candidate.neighbour_consistency > 0.8 > 0.2 > found.untrained.neighbour_consistency
    assert found.candidate.alignment < found.untrained.alignment
    assert found.candidate.lidar > found.untrained.lidar
    assert found.over_untrained.low > 0.5
    assert missed(refused) == ["labels"]
    assert "evaluator.data" in metrics.reasons[0]
    assert "evaluator.without_labels to compare" in metrics.reasons[0]
    assert (refused.candidate, metrics.probe_accuracy, metrics.champion) == (None, None, None)

    blessed = evaluated(tmp_path, images, models["colour"], without_labels="compare").metrics
    assert blessed.blessed
    assert blessed.label_free == found
    sentences = " ".join(check.sentence for check in blessed.checks)
    assert "whether it separates your classes is unknown without labels" in sentences
    assert "beats the" in sentences
    assert "of an untrained encoder significantly" in sentences
    assert any("which favours" in finding for finding in blessed.findings)


def test_collapsed_and_untrained_encoders_are_not_blessed_and_neither_is_one_behind_the_champion(
    tmp_path, images, models
):
    constant = evaluated(tmp_path, images, models["constant"], models["colour"], without_labels="compare")
    assert constant.metrics.label_free.candidate.neighbour_consistency == 0
    assert missed(constant) == ["collapse", "beat_untrained", "champion"]
    assert (constant.metrics.champion, constant.metrics.champion_version) == ("colours version 4", 4)
    assert constant.metrics.label_free.over_champion.high < -0.5
    # The untrained twin has other random weights.
    untrained = evaluated(tmp_path, images, models["untrained"], models["untrained"], without_labels="compare")
    assert missed(untrained) == ["beat_untrained"]
    assert untrained.metrics.label_free.over_champion.mean == 0


def test_embeddings_that_are_not_finite_bless_nobody_and_beat_nobody(tmp_path, images, models):
    broken = evaluated(tmp_path, images, models["nan"], without_labels="compare")
    assert broken.metrics.label_free.candidate.neighbour_consistency == 0
    assert missed(broken)[0] == "embeddings"
    against = evaluated(tmp_path, images, models["colour"], models["nan"], without_labels="compare")
    assert missed(against) == ["champion_problem"]
    assert "no finite embedding of 150" in against.metrics.reasons[0]
    allowed = evaluated(
        tmp_path, images, models["colour"], models["nan"], without_labels="compare", accept_baseline_reset=True
    )
    assert allowed.metrics.blessed
    assert allowed.metrics.label_free.champion is None


def measured(hits: int, images: int = 400, rank: float = 12.0) -> Measured:
    share = hits / images
    quality = ViewQuality(
        neighbour_consistency=share, interval=(share, share), alignment=0.5, uniformity=-2, rank_me=rank, lidar=rank
    )
    return Measured(quality, np.arange(images) < hits, 0, 32)


@pytest.mark.parametrize(
    ("settings", "champion", "expected"),
    [
        ({}, None, []),
        ({"floor": 0.5}, None, ["needs_labels"]),
        ({"floor": 0.0}, None, []),
        ({"floor": 0.5, "least_recall": 0.1}, None, ["needs_labels", "needs_labels"]),
        ({"least_test_images": 401}, None, ["least_test_images"]),
        ({}, measured(301), []),
        ({"tolerance": 0.01}, measured(330), ["champion"]),
        ({"tolerance": None}, measured(390), []),
    ],
)
def test_no_requirement_is_silently_left_out(settings, champion, expected):
    models = {"candidate": measured(300), "untrained": measured(100)} | ({"champion": champion} if champion else {})
    found = label_free.figures(models)
    registered = {"champion": CHAMPION} if champion else {}
    judged = label_free.verdict(
        COMPARE.model_copy(update={"least_test_images": 100} | settings), models, found, registered, {}
    )
    assert [check.name for check in judged.checks if not check.passed] == expected
    assert judged.blessed is (not expected)


def test_the_sample_is_drawn_at_random_from_all_files_and_views_are_those_of_the_stored_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(label_free, "_MOST_IMAGES", 12)
    pictures = [photograph(i, *SHAPES[i % len(SHAPES)]) for i in range(40)]
    files = write_images(tmp_path / "examples", pictures, files=4)
    still = EncoderDescription(image_size=SIZE, settings=SETTINGS.model_copy(update={"augmentation": STILL}))
    expected = [fitting.fit(tf.constant(picture[np.newaxis]), SIZE)[0].numpy() for picture in pictures]

    def drawn(seed: int, batch_bytes: int) -> list[np.ndarray]:
        monkeypatch.setattr(label_free, "_BATCH_BYTES", batch_bytes)
        return list(label_free._views(still, files, 40, 12, seed))

    views = np.concatenate(drawn(0, 10**9))
    assert views.shape == (12, 8, *SIZE, 3)
    # Without augmentation, a view is the middle of the whole picture, which is smooth.
    numbers = [int(np.argmin([np.abs(view - of_picture).mean() for of_picture in expected])) for view in views[:, 0]]
    assert len(set(numbers)) == 12
    assert len({number % 4 for number in numbers}) == 4
    assert max(numbers) - min(numbers) > 20
    in_small_batches = drawn(0, 2 * 8 * 32 * 32 * 3 * 4)
    assert {len(batch) for batch in in_small_batches} == {2}
    np.testing.assert_array_equal(np.concatenate(in_small_batches), views)
    assert not np.array_equal(np.concatenate(drawn(1, 10**9)), views)


def test_views_are_those_of_the_candidates_training(tmp_path):
    files = write_images(tmp_path / "examples", [photograph(i, 48, 64) for i in range(4)], kind=examples.JPEG)
    changed = SETTINGS.augmentation.model_copy(update={"grey": 1.0, "blur": (0.0, 1.0), "blur_sigma": (9.0, 9.0)})
    described = EncoderDescription(image_size=SIZE, settings=SETTINGS.model_copy(update={"augmentation": changed}))
    (views,) = label_free._views(described, files, 4, 4, 0)
    assert np.ptp(views.astype(int), axis=-1).max() <= 1
    # As in training, the settings of the first and of the second view alternate.
    sharpness = np.abs(np.diff(views.astype(int), axis=2)).mean(axis=(0, 2, 3, 4))
    assert sharpness[0::2].min() > sharpness[1::2].max()
