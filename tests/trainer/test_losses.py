"""The losses and their gradients against plain NumPy, on random inputs."""

from typing import get_args

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import losses
from trainer.config import Neighbour
from trainer.replicas import View
from trainer.support_set import SupportSet

SHAPES = {
    "seed": st.integers(0, 2**32 - 1),
    "rows": st.integers(1, 20),
    "width": st.integers(1, 16),
    "temperature": st.floats(0.05, 2.0),
}


def unit(rng, rows, width):
    z = rng.normal(size=(rows, width)).astype(np.float32)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def alone(rows) -> View:
    """A view on a single replica."""
    return View(tf.constant(rows), tf.constant(rows))


def stacked(*views) -> tf.Tensor:
    return tf.constant(np.stack(views))


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def info_nce(anchors, candidates, temperature):
    """The paper's equations 1 and 2, a value a row."""
    return -np.diag(log_softmax(anchors.astype(np.float64) @ candidates.T / temperature))


def info_nce_gradient(anchors, candidates, temperature):
    """Of the sum of `info_nce` with respect to the candidates: (softmax - identity)' anchors / temperature."""
    probabilities = np.exp(log_softmax(anchors.astype(np.float64) @ candidates.T / temperature))
    return (probabilities - np.eye(len(anchors))).T @ anchors / temperature


@settings(max_examples=40, deadline=None)
@given(**SHAPES)
def test_papers_loss_and_gradient(seed, rows, width, temperature):
    rng = np.random.default_rng(seed)
    n1, n2, z1, z2, p1, p2 = (unit(rng, rows, width) for _ in range(6))
    predictions, z = stacked(p1, p2), stacked(z1, z2)
    with tf.GradientTape() as tape:
        tape.watch(predictions)
        found = losses.paper_loss(z, stacked(n1, n2), predictions, temperature)
    expected = (info_nce(n1, p2, temperature) + info_nce(n2, p1, temperature)) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    gradients = tape.gradient(found, predictions)
    for gradient, neighbours, predictions in zip(gradients, (n2, n1), (p1, p2), strict=True):
        wanted = info_nce_gradient(neighbours, predictions, temperature) / 2
        np.testing.assert_allclose(gradient, wanted, rtol=1e-3, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(**SHAPES)
def test_simclrs_loss_uses_neither_neighbours_nor_predictions(seed, rows, width, temperature):
    rng = np.random.default_rng(seed)
    z1, z2 = (unit(rng, rows, width) for _ in range(2))
    found = losses.simclr_loss(stacked(z1, z2), tf.zeros([0]), None, temperature)
    expected = (info_nce(z1, z2, temperature) + info_nce(z2, z1, temperature)) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_each_mode_has_its_loss():
    modes = {mode: losses.loss_function(mode) for mode in get_args(Neighbour)}
    assert modes == {
        "paper": losses.paper_loss,
        "straight_through": losses.straight_through_loss,
        "none": losses.simclr_loss,
    }


@settings(max_examples=40, deadline=None)
@given(**SHAPES)
def test_examples_loss_takes_the_softmax_both_ways(seed, rows, width, temperature):
    rng = np.random.default_rng(seed)
    n1, n2, z1, z2 = (unit(rng, rows, width) for _ in range(4))
    found = losses.straight_through_loss(stacked(z1, z2), stacked(n1, n2), None, temperature)
    pairs = ((n1, z2), (z2, n1), (n2, z1), (z1, n2))
    expected = sum(info_nce(a, b, temperature) for a, b in pairs) / 4
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(**SHAPES, small=st.integers(1, 4))
def test_small_views_are_compared_with_both_anchors(seed, rows, width, temperature, small):
    rng = np.random.default_rng(seed)
    anchors = [unit(rng, rows, width) for _ in range(2)]
    views = [unit(rng, rows, width) for _ in range(2 + small)]
    found = losses.paper_loss(stacked(*views), stacked(*anchors), stacked(*views), temperature)
    terms = [info_nce(a, v, temperature) for i, a in enumerate(anchors) for j, v in enumerate(views) if i != j]
    assert len(terms) == 2 + 2 * small
    np.testing.assert_allclose(found, np.mean(terms, axis=0), rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=SHAPES["seed"], rows=SHAPES["rows"], temperature=SHAPES["temperature"])
def test_a_support_set_that_holds_the_projections_gives_simclrs_loss(seed, rows, temperature):
    # Wide enough for random rows to differ: each is its own nearest neighbour.
    rng = np.random.default_rng(seed)
    z1, z2 = unit(rng, rows, 16), unit(rng, rows, 16)
    support_set = SupportSet(2 * rows, 16, seed=0)
    support_set.enqueue(tf.constant(np.concatenate([z1, z2])))
    z = stacked(z1, z2)
    found = losses.paper_loss(z, tf.stack([support_set.nearest(rows).vectors for rows in z]), z, temperature)
    expected = (info_nce(z1, z2, temperature) + info_nce(z2, z1, temperature)) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_analytic_values():
    orthogonal = np.eye(4, dtype=np.float32)
    same = np.tile(orthogonal[:1], (4, 1))
    # All alike: the positive is one of four. All orthogonal: exp(1/t) against three times exp(0).
    for loss in (losses.paper_loss, losses.straight_through_loss, losses.simclr_loss):
        found = loss(*[stacked(same, same)] * 3, 0.5)
        np.testing.assert_allclose(found, np.log(4), rtol=1e-6)
        found = loss(*[stacked(orthogonal, orthogonal)] * 3, 0.5)
        np.testing.assert_allclose(found, np.log(np.exp(2) + 3) - 2, rtol=1e-5)


def test_contrastive_accuracy_counts_both_directions():
    z = np.eye(4, dtype=np.float32)
    swapped = z[[1, 0, 2, 3]]
    np.testing.assert_array_equal(losses.contrastive_accuracy(alone(z), alone(z)), [1, 1, 1, 1])
    np.testing.assert_array_equal(losses.contrastive_accuracy(alone(z), alone(swapped)), [0, 0, 1, 1])


def test_correlation_accuracy_finds_components_that_moved():
    z = unit(np.random.default_rng(0), 64, 6)
    assert losses.correlation_accuracy(alone(z), alone(z)).numpy() == 1
    moved = z[:, [1, 0, 2, 3, 4, 5]]
    assert losses.correlation_accuracy(alone(z), alone(moved)).numpy() == pytest.approx(4 / 6)


def test_projection_std_is_0_if_collapsed_and_1_if_spread():
    rng = np.random.default_rng(0)
    assert losses.projection_std(alone(np.tile(unit(rng, 1, 32), (100, 1)))).numpy() == pytest.approx(0, abs=1e-6)
    assert losses.projection_std(alone(unit(rng, 5_000, 32))).numpy() == pytest.approx(1, abs=0.01)
