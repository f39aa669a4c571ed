"""The support set is a first-in-first-out queue of one view."""

import numpy as np
import pytest

from trainer.support_set import SupportSet


def rows(*values: int) -> np.ndarray:
    return np.array([[v, 0.0] for v in values], np.float32)


@pytest.mark.parametrize(("size", "batch", "steps"), [(6, 3, 5), (7, 3, 9), (5, 4, 4), (4, 4, 3), (3, 5, 2)])
def test_holds_the_newest_whatever_batch_and_size(size, batch, steps):
    support_set = SupportSet(size, 2, seed=0)
    queue = [tuple(row) for row in support_set.members.numpy()]
    for step in range(steps):
        new = rows(*range(100 + step * batch, 100 + (step + 1) * batch))
        support_set.enqueue(new)
        queue = (queue + [tuple(row) for row in new])[-size:]
        assert {tuple(row) for row in support_set.members.numpy()} == set(queue)


def test_starts_with_random_unit_vectors_that_the_seed_decides():
    members = SupportSet(50, 8, seed=3).members.numpy()
    np.testing.assert_allclose(np.linalg.norm(members, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(members, SupportSet(50, 8, seed=3).members.numpy())
    assert not np.array_equal(members, SupportSet(50, 8, seed=4).members.numpy())


def test_nearest_has_the_largest_dot_product():
    rng = np.random.default_rng(0)
    support_set = SupportSet(40, 8, seed=0)
    z = rng.normal(size=(10, 8)).astype(np.float32)
    members = support_set.members.numpy()
    np.testing.assert_array_equal(support_set.nearest(z).numpy(), members[(z @ members.T).argmax(axis=1)])
