"""TFRecords that other programs have written are a source."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from components.image_example_gen.config import IngestSettings, TfrecordFeatures
from components.image_example_gen.ingest import ingest
from components.image_example_gen.sources.opening import open_labelled, open_source
from tests.components.test_ingest import records, runner
from trainer.errors import DataError


def encoded(seed: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (seed, 2 * seed, 3)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, labels: Sequence[int | str | None], options: str = "", image: str = "image") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for i, label in enumerate(labels):
            example = tf.train.Example()
            example.features.feature[image].bytes_list.value.append(encoded(i))
            if isinstance(label, int):
                example.features.feature["label"].int64_list.value.append(label)
            elif label is not None:
                example.features.feature["label"].bytes_list.value.append(label.encode())
            writer.write(example.SerializeToString())


def whole(root: Path, labels: Sequence[int | str]) -> Path:
    """Writes all splits, in files of different lengths, one of which is compressed."""
    write(root / "unlabelled-00000-of-00002.tfrecord", [None] * 5)
    write(root / "unlabelled-00001-of-00002.tfrecord", [None] * 6, "GZIP")
    write(root / "train" / "a.tfrecords", labels)
    write(root / "Test" / "a.tfrecords", labels[:2])
    (root / "README.txt").write_text("mine")
    return root


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [(["dog", "cat", "dog"], ("cat", "dog"), [1, 0, 1]), ([2, 0, 0], ("0", "1", "2"), [2, 0, 0])],
)
def test_records_become_examples(tmp_path, monkeypatch, labels, names, numbers):
    from components.image_example_gen import transforms

    monkeypatch.setattr(transforms, "_MOST_IMAGES_PER_BLOCK", 4)
    source = open_source(str(whole(tmp_path / "mine", labels)))
    assert source.counts == {"unlabelled": 11, "train": 3, "test": 2}
    assert source.class_names == names
    dataset = ingest(source, "f", IngestSettings(image_size=32), str(tmp_path / "out"), runner)
    assert dataset.counts == source.counts
    found = records(tmp_path / "out", "unlabelled")
    assert list(found) == [f"unlabelled-0000{i}-of-00002.tfrecord/{j}" for i, n in ((0, 5), (1, 6)) for j in range(n)]
    means = [np.frombuffer(e.features.feature["image"].bytes_list.value[0], np.uint8)[0] for e in found.values()]
    assert means == [*range(5), *range(6)]
    stored = [e.features.feature["label"].int64_list.value[0] for e in records(tmp_path / "out", "train").values()]
    assert stored == numbers


def test_features_have_the_names_of_the_settings(tmp_path):
    write(tmp_path / "unlabelled.tfrecord", [None], image="image/encoded")
    with pytest.raises(DataError, match=r"no picture in the feature image; it has the features image/encoded\."):
        open_source(str(tmp_path)).counts  # noqa: B018
    settings = IngestSettings(tfrecord=TfrecordFeatures(image="image/encoded"))
    assert open_source(str(tmp_path), settings).counts["unlabelled"] == 1


def test_what_cannot_be_used_is_named(tmp_path):
    write(tmp_path / "stray" / "part-0.tfrecord", [None])
    with pytest.raises(DataError, match=r"part-0\.tfrecord does not say to which split it belongs"):
        open_source(str(tmp_path / "stray"))

    write(tmp_path / "few" / "train.tfrecord", ["cat"])
    with pytest.raises(DataError, match="has no TFRecords of the split unlabelled"):
        open_source(str(tmp_path / "few"))
    with pytest.raises(DataError, match="lacks TFRecords of the split train or test"):
        open_labelled(str(tmp_path / "few"))

    mixed = whole(tmp_path / "mixed", ["cat", "dog", 3])
    with pytest.raises(DataError, match="some labels are texts and some are numbers"):
        open_source(str(mixed)).class_names  # noqa: B018

    unknown = whole(tmp_path / "unknown", ["cat", "dog"])
    write(unknown / "test" / "b.tfrecord", ["emu"])
    with pytest.raises(DataError, match="has labels that train lacks: emu"):
        open_source(str(unknown)).class_names  # noqa: B018

    cut = whole(tmp_path / "cut", ["cat", "dog"])
    file = cut / "unlabelled-00000-of-00002.tfrecord"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"unlabelled-00000-of-00002\.tfrecord is damaged or cut off"):
        open_source(str(cut)).counts  # noqa: B018

    write(tmp_path / "none" / "unlabelled.tfrecord", [None])
    write(tmp_path / "none" / "train.tfrecord", [None])
    with pytest.raises(DataError, match="a record has 0 labels in the feature label"):
        open_source(str(tmp_path / "none")).counts  # noqa: B018
