"""Which images are suggested for labelling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.embeddings import label_choice
from trainer import splits

UNKNOWN = splits.NO_LABEL


def clusters(*sizes: int) -> np.ndarray:
    """Embeddings on a short arc through an axis of its own for each cluster, the densest in the middle of the arc."""
    rng = np.random.default_rng(0)
    parts = []
    for axis, size in enumerate(sizes):
        places = np.linspace(-1, 1, size) if size > 1 else np.zeros(1)
        angles = 0.2 * places * np.abs(places)
        part = np.zeros([size, len(sizes) + 1])
        part[:, axis], part[:, -1] = np.cos(angles), np.sin(angles)
        # Only the direction counts.
        parts.append(part * rng.uniform(1, 9, [size, 1]))
    return np.concatenate(parts).astype(np.float32)


# The rows in the middle of clusters of 21, 41 and 31 images.
SIZES, MIDDLES = (21, 41, 31), (10, 41, 77)
NOTHING = np.zeros(sum(SIZES), bool)


def test_the_most_typical_image_of_each_cluster_is_suggested_and_the_largest_cluster_comes_first():
    first, second, third = MIDDLES
    assert label_choice.most_typical(clusters(*SIZES), NOTHING, 3, seed=0).tolist() == [second, third, first]


def test_clusters_with_a_label_come_last():
    labelled = NOTHING.copy()
    labelled[[20, 30]] = True
    # There will be three labels, and therefore three clusters, of which two have a label already.
    assert label_choice.most_typical(clusters(*SIZES), labelled, 1, seed=0).tolist() == [MIDDLES[2]]


def test_an_image_unlike_all_others_comes_last():
    chosen = label_choice.most_typical(clusters(*SIZES, 1), np.zeros(94, bool), 4, seed=0).tolist()
    # The largest cluster gives a second image, instead of the image that is a cluster of its own.
    assert chosen[:3] == [MIDDLES[1], MIDDLES[2], MIDDLES[0]]
    assert 21 <= chosen[3] < 62


@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_the_choice_is_complete_without_repetition_without_labelled_images_and_the_same_each_time(data):
    count = data.draw(st.integers(2, 30))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    # Among them copies, and embeddings of zeros.
    vectors = rng.integers(-1, 2, [count, 2]).astype(np.float32)
    labels = np.array(data.draw(st.lists(st.integers(UNKNOWN, 1), min_size=count, max_size=count)))
    free = np.flatnonzero(labels == UNKNOWN)
    wanted = data.draw(st.integers(0, len(free)).filter(bool)) if len(free) else None
    if wanted is None:
        return
    rules = [lambda: label_choice.most_typical(vectors, labels != UNKNOWN, wanted, seed=1)]
    if len(np.unique(labels[labels != UNKNOWN])) > 1:
        rules.append(lambda: label_choice.least_certain(vectors, labels, wanted, seed=1))
    for rule in rules:
        chosen = rule()
        assert len(set(chosen.tolist())) == len(chosen) == wanted
        assert set(chosen.tolist()) <= set(free.tolist())
        np.testing.assert_array_equal(rule(), chosen)


def test_the_least_certain_images_lie_between_the_classes():
    line = np.linspace(-1, 1, 41, dtype=np.float32)
    labels = np.where(line < -0.5, 0, np.where(line > 0.5, 1, UNKNOWN))
    chosen = label_choice.least_certain(line[:, np.newaxis], labels, 3, seed=0)
    assert set(chosen.tolist()) == {19, 20, 21}


@pytest.mark.parametrize(
    ("labels_of_each_class", "rule"),
    [((), "typicality"), ((80,), "typicality"), ((39, 40), "typicality"), ((20, 60), "margin")],
)
def test_a_probe_decides_once_there_are_enough_labels(labels_of_each_class, rule):
    vectors = clusters(81, 81)
    labels = np.full(162, UNKNOWN)
    for number, count in enumerate(labels_of_each_class):
        labels[81 * number :][:count] = number
    assert label_choice.choose(vectors, labels, 2, seed=0)[1] == rule


def test_many_images_are_clustered_by_small_batches(monkeypatch):
    monkeypatch.setattr(label_choice, "_MOST_DISTANCES", 1)
    chosen = label_choice.most_typical(clusters(*SIZES), NOTHING, 3, seed=0)
    assert sorted(chosen.tolist()) == sorted(MIDDLES)
