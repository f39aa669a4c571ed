"""The losses against plain NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from trainer import losses
from trainer.losses import Pairs


def unit(rng, rows, width):
    z = rng.normal(size=(rows, width)).astype(np.float32)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def alone(first, second) -> Pairs:
    """Both views on a single replica."""
    return Pairs(*(tf.constant(z) for z in (first, second, first, second)))


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(3))
def test_loss_is_the_mean_of_four_softmax_cross_entropies(seed):
    rng = np.random.default_rng(seed)
    z1, z2, n1, n2 = (unit(rng, 12, 5) for _ in range(4))
    found = losses.nnclr_loss(alone(n1, n2), alone(z1, z2), temperature=0.2).numpy()
    s12, s21 = n1 @ z2.T / 0.2, n2 @ z1.T / 0.2
    expected = -sum(np.diag(log_softmax(s)) for s in (s12, s12.T, s21, s21.T)) / 4
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_neighbours_that_are_the_projections_give_simclr_without_same_view_negatives():
    rng = np.random.default_rng(0)
    z1, z2 = unit(rng, 8, 4), unit(rng, 8, 4)
    found = losses.nnclr_loss(alone(z1, z2), alone(z1, z2), temperature=0.1).numpy()
    s = z1 @ z2.T / 0.1
    expected = -(np.diag(log_softmax(s)) + np.diag(log_softmax(s.T))) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_contrastive_accuracy_counts_both_directions():
    z = np.eye(4, dtype=np.float32)
    swapped = z[[1, 0, 2, 3]]
    np.testing.assert_array_equal(losses.contrastive_accuracy(alone(z, z)), [1, 1, 1, 1])
    np.testing.assert_array_equal(losses.contrastive_accuracy(alone(z, swapped)), [0, 0, 1, 1])


def test_correlation_accuracy_finds_components_that_moved():
    z = unit(np.random.default_rng(0), 64, 6)
    assert losses.correlation_accuracy(alone(z, z)).numpy() == 1
    moved = z[:, [1, 0, 2, 3, 4, 5]]
    assert losses.correlation_accuracy(alone(z, moved)).numpy() == pytest.approx(4 / 6)
