"""The order of the training data, and the parting of the labelled images."""

import numpy as np
import pytest

from trainer import data
from trainer.errors import DataError


def ids(dataset) -> list[bytes]:
    """A batch's images stand for their ids: each is different."""
    return [image.tobytes() for batch in dataset.as_numpy_iterator() for image in batch["image"]]


def epoch(files, number, seed=0):
    return ids(data.unlabelled_batches(files["unlabelled"], (32, 32), 16, buffer=20, seed=seed, epoch=number))


def test_an_epoch_has_every_image_once_in_an_order_of_its_own_that_repeats(tfrecords):
    first, second = epoch(tfrecords, 1), epoch(tfrecords, 2)
    assert len(first) == 96
    assert set(first) == set(second)
    assert len(set(first)) == 96
    assert first != second
    assert first == epoch(tfrecords, 1)
    assert first != epoch(tfrecords, 1, seed=1)


def test_held_out_images_are_never_trained_on(tfrecords):
    split = data.LabelledSplit(tfrecords["train"], (32, 32), holdout=0.3)
    held_out = ids(split.validation_batches(7))
    trained = ids(split.training_batches(8, buffer=40, seed=0, epoch=1).take(20))
    assert len(held_out) == len(set(held_out))
    assert len(held_out) + len(set(trained)) == 40
    assert not set(held_out) & set(trained)
    assert 3 <= len(held_out) <= 20


def test_count_and_labels(tfrecords):
    assert data.count(tfrecords["unlabelled"]) == 96
    np.testing.assert_array_equal(np.bincount(data.labels(tfrecords["train"])), [10, 10, 10, 10])


@pytest.mark.parametrize(("holdout", "side"), [(0.0001, "hold out"), (0.9999, "train on")])
def test_labelled_images_that_are_all_on_one_side_are_refused(tfrecords, holdout, side):
    with pytest.raises(DataError, match=f"none is left to {side}.*online_probe.holdout"):
        data.LabelledSplit(tfrecords["train"], (32, 32), holdout)
