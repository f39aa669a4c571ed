"""Measures of several views where their values are known."""

import numpy as np
import pytest
import scipy.linalg
import scipy.special

from trainer import metrics, view_metrics


def points(rows: int, dimensions: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)


def test_alignment_is_the_squared_distance_of_the_two_views_whatever_their_length():
    first = points(50, 8)
    assert view_metrics.alignment(first, 3 * first) == pytest.approx(0.0, abs=1e-12)
    assert view_metrics.alignment(first, -first) == pytest.approx(4.0)
    assert view_metrics.alignment(np.eye(4), np.roll(np.eye(4), 1, axis=1)) == pytest.approx(2.0)
    assert view_metrics.alignment(np.zeros((3, 2)), np.zeros((3, 2))) == 0.0


def test_uniformity_of_one_point_of_orthogonal_points_and_of_the_circle():
    assert view_metrics.uniformity(np.ones((700, 3))) == pytest.approx(0.0)
    assert view_metrics.uniformity(5 * np.eye(600)) == pytest.approx(-4.0)
    angles = np.linspace(0, 2 * np.pi, 1_500, endpoint=False)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    # The mean of exp(-2 * (2 - 2 cos)) over the circle, with the modified Bessel function.
    assert view_metrics.uniformity(circle) == pytest.approx(np.log(np.exp(-4) * scipy.special.i0(4)), abs=5e-3)


@pytest.mark.parametrize("directions", [1, 3, 8])
def test_lidar_counts_the_directions_in_which_images_differ_and_views_do_not(directions):
    rng = np.random.default_rng(0)
    images = np.zeros([320, 10])
    # Evenly filled directions.
    images[np.arange(320), np.arange(320) % directions] = np.where(np.arange(320) // directions % 2, 1.0, -1.0)
    views = images[:, np.newaxis] + 0.01 * rng.normal(size=(320, 6, 10))
    assert view_metrics.lidar(views) == pytest.approx(directions, rel=0.05)
    assert view_metrics.lidar(1e-3 * views) == pytest.approx(view_metrics.lidar(views))
    assert view_metrics.lidar(np.repeat(images[:, np.newaxis], 2, axis=1)) == pytest.approx(directions, rel=0.05)


def test_lidar_does_not_count_directions_that_only_views_fill_but_rank_me_does():
    rng = np.random.default_rng(0)
    views = np.zeros([500, 8, 10])
    views[..., :2] = rng.normal(size=(500, 1, 2)) + 0.01 * rng.normal(size=(500, 8, 2))
    views[..., 2:] = rng.normal(size=(500, 8, 8))
    assert metrics.rank_me(views[:, 0]) > 9
    assert view_metrics.lidar(views) == pytest.approx(2, abs=0.1)


def test_lidar_is_the_entropy_of_the_generalised_eigenvalues():
    rng = np.random.default_rng(0)
    views = rng.normal(size=(40, 1, 6)) * [9, 3, 1, 1, 0.5, 0.1] + rng.normal(size=(40, 5, 6))
    means = views.mean(1)
    between = np.cov(means.T, bias=True)
    within = np.mean([np.cov(of_image.T, bias=True) for of_image in views], axis=0)
    ridge = 1e-4 * (np.trace(between) + np.trace(within)) / 6 * np.eye(6)
    share = scipy.linalg.eigh(between, within + ridge, eigvals_only=True)
    share /= share.sum()
    assert view_metrics.lidar(views) == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def test_the_neighbour_of_an_image_is_consistent_if_no_other_image_is_as_near():
    first = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]])
    second = np.array([[2.0, 0.1], [1.0, 0.9], [0.0, 3.0], [-1.0, 0.0]])
    assert view_metrics.consistent_neighbours(first, second).tolist() == [True, False, False, True]
    # More rows than a batch, each with its own neighbours.
    many = points(1_200, 16)
    assert view_metrics.consistent_neighbours(many, many + 0.01 * points(1_200, 16, 1)).all()
    unrelated = view_metrics.consistent_neighbours(many, points(1_200, 16, 1))
    assert unrelated.mean() < 0.01


def test_a_constant_encoder_has_no_consistent_neighbours_and_no_direction():
    constant = np.tile(points(1, 33), (1_000, 1))
    # The same computation in batches of another size rounds differently.
    rounded = (constant * (1 + 1e-7 * points(1_000, 33, 1))).astype(np.float32)
    for embeddings in (constant, rounded, np.zeros_like(constant)):
        assert not view_metrics.consistent_neighbours(embeddings, constant).any()
        assert view_metrics.alignment(embeddings, embeddings) == 0.0
        assert view_metrics.uniformity(embeddings) == pytest.approx(0.0, abs=1e-6)
        assert view_metrics.lidar(np.stack([embeddings, embeddings], axis=1)) == 0.0
