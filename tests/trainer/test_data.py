"""The order of the training data, and the parting of the labelled images."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.conftest import write_relabelled
from trainer import data
from trainer.errors import DataError


def ids(dataset) -> list[bytes]:
    """A batch's images stand for their ids: each is different."""
    return [image.tobytes() for batch in dataset.as_numpy_iterator() for image in batch["image"]]


def epoch(files, number, seed=0):
    return ids(data.unlabelled_batches(files["unlabelled"], (32, 32), 16, order(number, seed)))


def order(number, seed=0):
    return data.Order(buffer=20, seed=seed, epoch=number)


def test_an_epoch_has_every_image_once_in_an_order_of_its_own_that_repeats(tfrecords):
    first, second = epoch(tfrecords, 1), epoch(tfrecords, 2)
    assert len(first) == 96
    assert set(first) == set(second)
    assert len(set(first)) == 96
    assert first != second
    assert first == epoch(tfrecords, 1)
    assert first != epoch(tfrecords, 1, seed=1)


def test_epochs_of_neighbouring_seeds_have_orders_of_their_own(tfrecords):
    one_file = {"unlabelled": tfrecords["unlabelled"][:1]}
    orders = [epoch(one_file, number, seed) for seed in range(3) for number in (1, 2, 3)]
    assert len(set(map(tuple, orders))) == len(orders)


def test_held_out_images_are_never_trained_on(tfrecords):
    split = data.LabelledSplit(tfrecords["train"], (32, 32), holdout=0.3)
    held_out = ids(split.images(held_out=True, batch=7))
    trained = ids(split.training_batches(8, order(1)).take(20))
    assert set(trained) == set(ids(split.images(held_out=False, batch=7)))
    assert len(held_out) == len(set(held_out))
    assert len(held_out) + len(set(trained)) == 40
    assert not set(held_out) & set(trained)
    assert 3 <= len(held_out) <= 20


def test_skipping_batches_goes_on_where_they_end(tfrecords):
    files, split = tfrecords["unlabelled"], data.LabelledSplit(tfrecords["train"], (32, 32), holdout=0.3)
    whole = ids(data.unlabelled_batches(files, (32, 32), 16, order(2)))
    assert ids(data.unlabelled_batches(files, (32, 32), 16, order(2), skip=4)) == whole[64:]
    endless = ids(split.training_batches(8, order(2)).take(12))
    assert ids(split.training_batches(8, order(2), skip=7).take(5)) == endless[56:]


@pytest.mark.parametrize(("workers", "replicas"), [(1, 2), (2, 1), (2, 2)])
def test_workers_and_replicas_share_each_global_batch_in_order(tfrecords, workers, replicas):
    def batches(context):
        found = data.unlabelled_batches(tfrecords["unlabelled"], (32, 32), 16, order(1), context=context)
        return [batch["image"] for batch in found.as_numpy_iterator()]

    whole = batches(tf.distribute.InputContext())
    parts = [batches(tf.distribute.InputContext(workers, i, workers * replicas)) for i in range(workers)]
    for step, batch in enumerate(whole):
        shares = [share for part in parts for share in part[step * replicas : (step + 1) * replicas]]
        np.testing.assert_array_equal(np.concatenate(shares), batch)


def test_a_batchs_ids_are_those_of_its_images(tfrecords):
    by_image = {}
    for record in tf.data.TFRecordDataset(tfrecords["unlabelled"]).as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        by_image[feature["image"].bytes_list.value[0]] = feature["id"].bytes_list.value[0].decode()
    expected = [by_image[image] for image in epoch(tfrecords, 3)[32:48]]
    assert data.batch_ids(tfrecords["unlabelled"], 16, order(3), index=2) == expected


def test_count_and_labels(tfrecords):
    assert data.survey(tfrecords["unlabelled"]).records == 96
    assert data.survey(tfrecords["train"], labelled=True).labels == (0, 3)
    assert data.survey(tfrecords["train"]).labels is None
    assert data.survey([], labelled=True) == data.survey([])
    assert data.survey([]).records == 0


def test_fingerprint_is_of_the_records_and_not_of_their_place(tfrecords, tmp_path):
    files = tfrecords["train"]
    copies = [str(shutil.copy(path, tmp_path / f"copy-{i}")) for i, path in enumerate(files)]
    changed_directory = tmp_path / "changed"
    changed_directory.mkdir()
    changed = write_relabelled(files, changed_directory, lambda label: (label + 1) % 4)
    assert data.survey(copies).fingerprint == data.survey(files).fingerprint
    assert data.survey(changed).fingerprint != data.survey(files).fingerprint
    assert data.survey(files[::-1]).fingerprint != data.survey(files).fingerprint


@pytest.mark.parametrize(("holdout", "side"), [(0.0001, "hold out"), (0.9999, "train on")])
def test_labelled_images_that_are_all_on_one_side_are_refused(tfrecords, holdout, side):
    with pytest.raises(DataError, match=f"none is left to {side}.*online_probe.holdout"):
        data.LabelledSplit(tfrecords["train"], (32, 32), holdout)
