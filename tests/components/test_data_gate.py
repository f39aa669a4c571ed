"""The gate's verdicts, on the statistics and anomalies that TFDV computes from drawn images."""

import functools
import logging
from importlib import resources
from pathlib import Path
from typing import NamedTuple

# TFX first: it brings a module that this TFDV misses.
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

# isort: split
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from PIL import Image
from tensorflow_data_validation.statistics.stats_impl import generate_statistics_in_memory
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from components.artifact_files import DamagedFile
from components.champion_resolver import artifact as champion_artifact
from components.champion_resolver.artifact import Champion, Resolved
from components.data_gate import artifact, executor
from components.data_gate.config import GateSettings
from components.image_example_gen import artifact as examples_artifact
from components.image_example_gen.artifact import Dataset
from components.image_example_gen.encoding import to_example
from components.image_example_gen.sources.base import Picture
from pipeline.dag import STATISTICS_OPTIONS
from trainer import splits
from trainer.errors import DataError

SCHEMA = text_format.Parse((resources.files("pipeline") / "schema" / "schema.pbtxt").read_text(), schema_pb2.Schema())
CLASSES = ("cat", "dog")


class Images(NamedTuple):
    """The images of a split.

    Attributes:
        pixels: uint8 [N, height, width, 3].
        labels: The class of each image; by default there are none.
        source_size: Height and width of the pictures before they were fitted.
    """

    pixels: np.ndarray
    labels: list[int] | None = None
    source_size: tuple[int, int] | None = None


Data = dict[str, Images]


def textures(count: int, seed: int = 0) -> np.ndarray:
    """Draws textures of random colours, uint8 [count, 32, 32, 3]."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (count, 5, 5, 3), np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(patch).resize((32, 32), Image.Resampling.BICUBIC)) for patch in patches]
    )


def good(count: int = 120, seed: int = 0) -> Data:
    """Returns a small set that is fit for training."""
    return {
        splits.UNLABELLED: Images(textures(count, seed)),
        splits.TRAIN: Images(textures(40, seed + 1), [0, 1] * 20),
        splits.TEST: Images(textures(12, seed + 2), [0, 1] * 6),
    }


def unlabelled(pixels: np.ndarray) -> Data:
    return good() | {splits.UNLABELLED: Images(pixels)}


def serialised(images: Images, split: str) -> list[bytes]:
    labels = images.labels or [splits.NO_LABEL] * len(images.pixels)
    return [
        to_example(Picture(split, i, f"{split}/{i}", pixels, label), pixels, source_size=images.source_size)
        for i, (pixels, label) in enumerate(zip(images.pixels, labels, strict=True))
    ]


@functools.cache
def validated(records: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    """Returns the serialised statistics and anomalies of a split, as TFX computes them."""
    options = tfdv.StatsOptions.from_json(STATISTICS_OPTIONS.to_json())
    options.schema = SCHEMA
    computed = generate_statistics_in_memory(ExamplesToRecordBatchDecoder().DecodeBatch(list(records)), options)
    return computed.SerializeToString(), tfdv.validate_statistics(computed, SCHEMA).SerializeToString()


class Gate:
    """Stores what the components before DataGate make of images, and runs DataGate on it.

    Args:
        directory: The folder for all artifacts.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self._champion = standard_artifacts.Model()
        self._champion.uri = str(directory / "champion")
        champion_artifact.write(self._champion.uri, Resolved())

    def release(self, checks: str) -> None:
        """Makes the images that passed the gate those of the champion."""
        champion_artifact.write(self._champion.uri, Resolved(champion=Champion(name="m", version=3)))
        champion_artifact.write_statistics(self._champion.uri, artifact.read_statistics(checks))

    def release_without_statistics(self) -> None:
        """Makes a version of nnclr 0.1.0 the champion."""
        champion_artifact.write(self._champion.uri, Resolved(champion=Champion(name="m", version=3)))

    def judge(
        self,
        data: Data,
        separate: Data | None = None,
        edit=lambda example: None,
        damage: dict[str, bytes] | None = None,
        **settings,
    ) -> str:
        """Runs DataGate, and returns the folder of its verdicts.

        Args:
            data: The images.
            separate: The images of a separate labelled set.
            edit: Changes the first example of each split.
            damage: What files of the folder hold instead, by path.
            settings: The settings of the gate.
        """
        inputs = dict(zip(("examples", "statistics", "anomalies"), self._validated("data", data, edit), strict=True))
        for name, content in (damage or {}).items():
            (self._directory / name).write_bytes(content)
        if separate is not None:
            artifacts = self._validated("separate", separate, edit)
            inputs |= zip(("labelled_examples", "labelled_statistics", "labelled_anomalies"), artifacts, strict=True)
        checks = standard_artifacts.ExampleAnomalies()
        checks.uri = str(self._directory / "checks")
        executor.Executor().Do(
            {name: [value] for name, value in inputs.items()} | {"champion": [self._champion]},
            {artifact.DATA_CHECKS: [checks]},
            {"settings": GateSettings(**settings).model_dump_json()},
        )
        return checks.uri

    def _validated(self, name: str, data: Data, edit) -> tuple:
        examples = standard_artifacts.Examples()
        statistics, anomalies = standard_artifacts.ExampleStatistics(), standard_artifacts.ExampleAnomalies()
        for one, folder in ((examples, "examples"), (statistics, "statistics"), (anomalies, "anomalies")):
            one.uri = str(self._directory / name / folder)
            one.split_names = artifact_utils.encode_split_names(list(splits.SPLITS))
        counts = {split: len(data[split].pixels) if split in data else 0 for split in splits.SPLITS}
        examples_artifact.write(
            examples.uri, Dataset(source=name, fingerprint=name, counts=counts, class_names=CLASSES)
        )
        for split, images in data.items():
            records = serialised(images, split)
            first = tf.train.Example.FromString(records[0])
            edit(first.features.feature)
            computed, invalid = validated((first.SerializeToString(), *records[1:]))
            io_utils.write_bytes_file(f"{statistics.uri}/Split-{split}/FeatureStats.pb", computed)
            io_utils.write_bytes_file(f"{anomalies.uri}/Split-{split}/SchemaDiff.pb", invalid)
        return examples, statistics, anomalies


@pytest.fixture
def gate(tmp_path) -> Gate:
    return Gate(tmp_path)


def verdicts(checks: str) -> dict[str, bool]:
    return {check.name: check.passed for check in artifact.read_checks(checks)}


def sentence(checks: str, name: str) -> str:
    return " ".join(next(check.sentences for check in artifact.read_checks(checks) if check.name == name))


def test_good_data_passes_every_check_without_a_warning(gate, caplog):
    with caplog.at_level(logging.WARNING, "nnclr"):
        checks = gate.judge(good(), separate={split: good(seed=9)[split] for split in (splits.TRAIN, splits.TEST)})
    assert caplog.messages == []
    actions = [name for name, value in GateSettings() if value in ("warn", "fail")]
    assert verdicts(checks) == dict.fromkeys(actions, True)
    assert sentence(checks, "drift") == "There is no champion to compare the images with."


def test_small_sets_and_sets_without_labels_pass(gate, caplog):
    with caplog.at_level(logging.WARNING, "nnclr"):
        gate.judge({splits.UNLABELLED: Images(textures(30))})
        gate.judge({splits.UNLABELLED: Images(textures(30)), splits.TRAIN: good()[splits.TRAIN]})
    assert caplog.messages == []


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


def recompressed(count: int) -> np.ndarray:
    """The same five pictures again and again, each time with a little noise, as recompression adds it."""
    pixels = np.tile(textures(5), (count // 5, 1, 1, 1)).astype(int)
    return np.clip(pixels + np.random.default_rng(0).integers(-1, 2, pixels.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            unlabelled(np.zeros([60, 32, 32, 3], np.uint8)),
            [
                "100.0% of the 60 images of split unlabelled have a single brightness, more than 50.0% "
                "(gate.max_constant). The mean brightness of the split is 0.00, where black is 0 and white is 1. Check "
                "how the pictures were made.",
                "98.3% of the 60 images of split unlabelled repeat another one pixel by pixel",
                "set gate.exact_duplicates and gate.constant to warn.",
            ],
            id="all black",
        ),
        pytest.param(
            unlabelled(
                np.tile(np.uint8([200, 30, 30]), (60, 32, 32, 1))
                + np.arange(60, dtype=np.uint8)[:, None, None, None] % 50
            ),
            ["100.0% of the 60 images of split unlabelled have a single brightness, more than 50.0%"],
            id="plain colours",
        ),
        pytest.param(
            unlabelled(np.tile(textures(1), (60, 1, 1, 1))),
            [
                "98.3% of the 60 images of split unlabelled repeat another one pixel by pixel, more than 50.0% "
                "(gate.max_exact_duplicates). The most frequent one occurs 60 times. Remove the copies."
            ],
            id="one picture 60 times",
        ),
        pytest.param(
            unlabelled(noise(60)),
            [
                "100.0% of the 60 images of split unlabelled are noise (the correlation of neighbouring pixels is "
                "below 0.4), more than 50.0% (gate.max_noise). Check how the pictures were decoded before they were "
                "stored."
            ],
            id="noise",
        ),
    ],
)
def test_images_that_ruin_a_training_stop_the_run(gate, data, expected):
    with pytest.raises(DataError, match=r"^The data failed validation, so nothing was trained: ") as raised:
        gate.judge(data)
    for part in expected:
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        pytest.param(
            good() | {splits.TRAIN: Images(textures(301), [0] * 300 + [1])},
            "class_imbalance",
            "In split train, class cat has 300 images and class dog has 1: 300 times as many, more than 100 times "
            "(gate.max_class_imbalance). Add images of dog, or remove images of cat.",
            id="classes 300:1",
        ),
        pytest.param(
            good()
            | {splits.TRAIN: Images(textures(16), [0] * 16), splits.TEST: Images(textures(12), [0] * 8 + [1] * 4)},
            "class_size",
            "In split train, 1 class has fewer than 5 images (gate.min_class_size): dog has 0. Add images of these "
            "classes, or leave the classes out. In split test, 1 class has fewer than 5 images (gate.min_class_size): "
            "dog has 4. Add images of these classes, or leave the classes out.",
            id="too few per class",
        ),
        pytest.param(
            good() | {splits.TEST: Images(textures(9), [0] * 9)},
            "split_size",
            "Split test has 9 images, fewer than 10 (gate.min_split_size): add images.",
            id="too few in a split",
        ),
        pytest.param(
            unlabelled(recompressed(100)),
            "near_duplicates",
            "% of the 100 images of split unlabelled look like another one, more than 20.0% "
            "(gate.max_near_duplicates). The most frequent look occurs ",
            id="near duplicates",
        ),
        pytest.param(
            unlabelled(
                np.where(np.arange(120)[:, None, None, None] % 3 == 0, textures(120) // 64 + 100, textures(120))
            ),
            "near_constant",
            "% of the 120 images of split unlabelled have almost a single brightness (their contrast is below 0.02), "
            "more than 10.0% (gate.max_near_constant). Remove empty pictures.",
            id="near constant",
        ),
        pytest.param(
            unlabelled(textures(120) // 16),
            "brightness",
            "The mean brightness of split unlabelled is 0.029, below 0.05 (gate.min_brightness). Check how the "
            "pictures were made.",
            id="almost black",
        ),
        pytest.param(
            good() | {splits.TRAIN: Images(textures(120) // 2, [0, 1] * 60)},
            "skew",
            "The images of split train differ from those of split unlabelled: mean brightness 0.249 instead of 0.499 "
            "(divergence ",
            id="labelled images darker than the unlabelled ones",
        ),
    ],
)
def test_suspicious_images_are_warned_of(gate, caplog, data, name, expected):
    with caplog.at_level(logging.WARNING, "nnclr"):
        checks = gate.judge(data)
    assert expected in sentence(checks, name)
    assert not verdicts(checks)[name]
    assert expected in " ".join(caplog.messages)


GREY = np.repeat(textures(120, seed=5).mean(-1, keepdims=True), 3, axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (
            Images(textures(120, seed=5) // 2),
            "mean brightness 0.24",
        ),
        (
            Images(textures(120, seed=5), source_size=(64, 48)),
            "mean height 64 instead of 32 (divergence 1.00); mean width 48 instead of 32 (divergence 1.00). These "
            "Jensen-Shannon divergences are above 0.2 (gate.max_drift). Check the source of the images or, if the "
            "change is intended, set gate.drift to off for this run.",
        ),
        (
            Images(GREY),
            "mean colour saturation 0 instead of 0.4",
        ),
        (
            Images((textures(120, seed=5) / 2 + 64).astype(np.uint8)),
            "mean contrast 0.0",
        ),
    ],
    ids=["brightness", "size", "grey", "contrast"],
)
def test_images_unlike_those_of_the_champion_are_warned_of(gate, images, expected):
    gate.release(gate.judge(good()))
    checks = gate.judge(good() | {splits.UNLABELLED: images})
    assert sentence(checks, "drift").startswith(
        "The images of split unlabelled differ from those of the champion m version 3: mean "
    )
    assert expected in sentence(checks, "drift")
    with pytest.raises(DataError, match="differ from those of the champion m version 3"):
        gate.judge(good() | {splits.UNLABELLED: images}, drift="fail", skew="off")


def test_other_images_of_the_same_kind_have_not_drifted(gate):
    gate.release(gate.judge(good()))
    checks = gate.judge(good(seed=20))
    assert verdicts(checks)["drift"]
    assert sentence(checks, "drift").startswith("The largest divergence is 0.")
    # TFDV's own tools read what is kept of a run.
    kept = tfdv.load_stats_binary(f"{checks}/statistics.pb")
    assert [(dataset.name, dataset.num_examples) for dataset in kept.datasets] == [
        *(("unlabelled", 120), ("train", 40), ("test", 12))
    ]


def test_a_champion_without_statistics_and_small_splits_are_not_compared(gate):
    gate.release_without_statistics()
    checks = gate.judge(good(count=60))
    assert sentence(checks, "drift") == "The champion m version 3 has no statistics to compare the images with."
    gate.release(checks)
    dark = good() | {splits.UNLABELLED: Images(textures(60) // 4)}
    assert sentence(gate.judge(dark), "drift") == "Splits of fewer than 100 images are not compared."


def test_the_separate_labelled_set_is_judged_too_and_compared_with_the_same_set(gate):
    separate = {splits.TRAIN: Images(noise(120), [0, 1] * 60), splits.TEST: good()[splits.TEST]}
    with pytest.raises(DataError, match=r"100\.0% of the 120 images of split train of evaluator\.data are noise"):
        gate.judge(good(), separate)
    separate[splits.TRAIN] = Images(textures(120, seed=7), [0, 1] * 60)
    gate.release(gate.judge(good(), separate))
    separate[splits.TRAIN] = Images(textures(120, seed=8) // 2, [0, 1] * 60)
    checks = gate.judge(good(), separate)
    for name, other in (("skew", "split unlabelled"), ("drift", "the champion m version 3")):
        assert f"The images of split train of evaluator.data differ from those of {other}" in sentence(checks, name)


def test_each_check_can_be_switched_off_and_made_to_fail_or_to_warn(gate):
    data = unlabelled(np.zeros([60, 32, 32, 3], np.uint8))
    checks = ("exact_duplicates", "constant", "near_constant", "brightness", "contrast")
    assert not verdicts(gate.judge(data, **dict.fromkeys(checks, "off"))).keys() & set(checks)
    assert not any(verdicts(gate.judge(data, **dict.fromkeys(checks, "warn")))[name] for name in checks)
    for name in checks:
        with pytest.raises(DataError, match=f"To train nevertheless, set gate.{name} to warn."):
            gate.judge(data, **dict.fromkeys(checks, "off") | {name: "fail"})


def values(name: str, *new):
    """Returns what replaces the values of a feature."""

    def edit(features):
        kind = features[name].WhichOneof("kind")
        del getattr(features[name], kind).value[:]
        getattr(features[name], kind).value.extend(new)

    return edit


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (values("label", 12_345), "feature label: .*12345"),
        (values("label", -2), "feature label: .*-2"),
        (values("pixel_mean", 1.5), "feature pixel_mean: .*1.5"),
        (values("pixel_std", np.nan), "feature pixel_std: "),
        (values("height", 2), "feature height: "),
        (values("label"), "feature label: .*not always present"),
        (values("saturation", -0.5), "feature saturation: .*-0.5"),
        (values("exact_hash"), "feature exact_hash: "),
    ],
)
def test_each_anomaly_stops_the_run_with_a_sentence(gate, edit, expected):
    with pytest.raises(DataError, match=f"(?is)failed validation.*Split train, {expected}.*schema.pbtxt"):
        gate.judge({splits.TRAIN: good()[splits.TRAIN]}, edit=edit)


@pytest.mark.parametrize("content", [b"", b"\xff\xff damaged"])
@pytest.mark.parametrize(
    "path",
    [
        "data/statistics/Split-unlabelled/FeatureStats.pb",
        "data/anomalies/Split-unlabelled/SchemaDiff.pb",
        "champion/data_statistics.pb",
    ],
)
def test_damaged_statistics_and_anomalies_are_named(gate, path, content):
    gate.release(gate.judge(good()))
    with pytest.raises(DamagedFile, match=rf"{path} is damaged: restore it, or create it again with nnclr run --no-c"):
        gate.judge(good(), damage={path: content})
