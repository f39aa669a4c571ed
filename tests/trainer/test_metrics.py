"""Measures of a representation where their values are known."""

import numpy as np
import pytest

from trainer import metrics


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rank_me_is_the_rank_of_evenly_filled_directions(rank):
    rng = np.random.default_rng(0)
    rows, _ = np.linalg.qr(rng.normal(size=(40, rank)))
    columns, _ = np.linalg.qr(rng.normal(size=(10, rank)))
    assert metrics.rank_me(rows @ columns.T) == pytest.approx(rank, rel=1e-3)


def test_rank_me_against_its_definition():
    embeddings = np.random.default_rng(0).normal(size=(30, 6)) * [9, 3, 1, 1, 0.1, 0.01]
    share = np.linalg.svd(embeddings)[1]
    share = share / share.sum()
    assert metrics.rank_me(embeddings) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-4)


def test_rank_me_of_nothing_is_0():
    assert metrics.rank_me(np.zeros((5, 3))) == 0.0


def test_neighbour_label_share_leaves_the_sample_itself_out():
    projections = np.array([[1, 0], [0.99, 0.1], [0, 1], [0.1, 0.99]])
    assert metrics.neighbour_label_share(projections, np.array([0, 0, 1, 1])) == 1.0
    assert metrics.neighbour_label_share(projections, np.array([0, 1, 2, 3])) == 0.0
    assert metrics.neighbour_label_share(projections, np.array([0, 0, 1, 2])) == 0.5


def test_knn_votes_by_similarity():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(60, 4)), rng.normal(size=(30, 4))
    train_labels, test_labels = rng.integers(0, 3, 60), rng.integers(0, 3, 30)
    similarity = (test / np.linalg.norm(test, axis=1, keepdims=True)) @ (
        train / np.linalg.norm(train, axis=1, keepdims=True)
    ).T
    hits = 0
    for row, label in zip(similarity, test_labels, strict=True):
        nearest = np.argsort(-row)[:20]
        votes = np.bincount(train_labels[nearest], weights=np.exp(row[nearest] / 0.07), minlength=3)
        hits += votes.argmax() == label
    assert metrics.knn_accuracy(train, train_labels, test, test_labels, 20) == pytest.approx(hits / 30)
