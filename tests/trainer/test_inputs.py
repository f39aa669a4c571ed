"""The images of a training are counted and measured once."""

from pathlib import Path

import pytest
import tensorflow as tf

from trainer import inputs
from trainer.config import TrainerSettings
from trainer.errors import DataError


def empty(tmp_path) -> list[str]:
    path = str(tmp_path / "empty")
    with tf.io.TFRecordWriter(path):
        pass
    return [path]


def test_images_are_counted_and_measured(tfrecords, tmp_path):
    images = inputs.read(TrainerSettings(), tfrecords["unlabelled"], tfrecords["train"])
    assert (images.count, images.size, images.classes) == (96, (32, 32), 4)
    assert images.labelled is not None
    without_labels = inputs.read(TrainerSettings(), tfrecords["unlabelled"], empty(tmp_path))
    assert (without_labels.labelled, without_labels.classes) == (None, 0)
    assert without_labels.fingerprints[0] == images.fingerprints[0]
    assert without_labels.fingerprints[1] != images.fingerprints[1]


def test_a_split_without_images_is_refused(tmp_path):
    with pytest.raises(DataError, match="`unlabelled` has no images: add images"):
        inputs.read(TrainerSettings(), empty(tmp_path), [])


def test_damage_that_only_a_training_meets_is_named(tfrecords, tmp_path):
    settings = TrainerSettings.model_validate({"batch_size": 16, "online_probe": {"batch_size": 8}})
    good, damaged = tfrecords["unlabelled"]
    copy = tmp_path / "copy"
    copy.write_bytes(Path(damaged).read_bytes())
    images = inputs.read(settings, [good, str(copy)], tfrecords["train"])
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    with pytest.raises(DataError, match=f"{copy} is damaged, cut off or compressed: "):
        list(images.batches(settings, tf.distribute.get_strategy(), 1, 0))


def test_a_failing_batch_is_named_by_its_ids(tfrecords):
    settings = TrainerSettings.model_validate({"batch_size": 16, "online_probe": {"batch_size": 8}})
    images = inputs.read(settings, tfrecords["unlabelled"], tfrecords["train"])
    ids = [identity for batch in range(6) for identity in images.ids(settings, 1, batch)]
    assert sorted(ids) == [f"unlabelled/{i:06d}" for i in range(96)]
    assert images.ids(settings, 2, 0) != ids[:16]
