"""The support set is a first-in-first-out queue of one view."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.conftest import mirrored
from trainer.support_set import SupportSet


def rows(*values: int) -> np.ndarray:
    return np.array([[v, 0.0] for v in values], np.float32)


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 12), batches=st.lists(st.integers(1, 15), max_size=8))
def test_holds_the_newest_whatever_batch_and_size(size, batches):
    support_set = SupportSet(size, 2, seed=0)
    queue = [tuple(row) for row in support_set.members.numpy()]
    count = 100
    for batch in batches:
        new = rows(*range(count, count + batch))
        count += batch
        support_set.enqueue(tf.constant(new))
        queue = (queue + [tuple(row) for row in new])[-size:]
        assert {tuple(row) for row in support_set.members.numpy()} == set(queue)
        # The pointer is at the oldest: ages count back from it.
        oldest_first = np.roll(support_set.members.numpy(), -int(support_set.pointer.numpy()), axis=0)
        assert [tuple(row) for row in oldest_first] == queue


def test_starts_with_random_unit_vectors_that_the_seed_decides():
    members = SupportSet(50, 8, seed=3).members.numpy()
    np.testing.assert_allclose(np.linalg.norm(members, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(members, SupportSet(50, 8, seed=3).members.numpy())
    assert not np.array_equal(members, SupportSet(50, 8, seed=4).members.numpy())


def test_nearest_has_the_largest_dot_product_and_passes_no_gradient():
    rng = np.random.default_rng(0)
    support_set = SupportSet(40, 8, seed=0)
    z = tf.constant(rng.normal(size=(10, 8)).astype(np.float32))
    members = support_set.members.numpy()
    with tf.GradientTape() as tape:
        tape.watch(z)
        found = support_set.nearest(z).vectors
    np.testing.assert_array_equal(found, members[(z.numpy() @ members.T).argmax(axis=1)])
    assert tape.gradient(found, z) is None


@pytest.mark.parametrize("size", [1, 63, 64, 65, 4096, 4097, 9000])
def test_nearest_is_found_whatever_the_blocks_of_the_search(size):
    rng = np.random.default_rng(size)
    support_set = SupportSet(size, 8, seed=0)
    members = support_set.members.numpy()
    # Members themselves, the first and the last among them, are their own neighbours; the rest have one somewhere.
    own = members[[0, size - 1, size // 2]]
    z = np.concatenate([own, -own, rng.normal(size=(40, 8)).astype(np.float32)])
    found = support_set.nearest(tf.constant(z)).vectors.numpy()
    np.testing.assert_array_equal(found[:3], own)
    np.testing.assert_allclose((found * z).sum(axis=1), (z @ members.T).max(axis=1), rtol=1e-5)


def test_one_of_the_k_nearest_is_chosen():
    rng = np.random.default_rng(0)
    support_set = SupportSet(40, 8, seed=0)
    z = rng.normal(size=(6, 8)).astype(np.float32)
    members = support_set.members.numpy()
    ranked = np.argsort(-(z @ members.T), axis=1)
    choice = np.array([0.0, 0.24, 0.26, 0.51, 0.76, 0.999], np.float32)
    found = support_set.nearest(tf.constant(z), k=4, choice=tf.constant(choice)).vectors.numpy()
    np.testing.assert_array_equal(found, members[ranked[range(6), [0, 0, 1, 2, 3, 3]]])


@pytest.mark.parametrize("enqueued", [5, 8, 13])
def test_ages_count_images_enqueued_since(enqueued):
    support_set = SupportSet(8, 64, seed=0)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(enqueued, 64)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    for row in z:
        support_set.enqueue(tf.constant(row[np.newaxis]))
    newest_first = z[::-1][:8]
    found = support_set.nearest(tf.constant(newest_first))
    np.testing.assert_array_equal(found.ages, np.arange(len(newest_first)))


def test_every_replica_updates_and_restores_a_copy_of_its_own(logical_cpus):
    strategy = mirrored(logical_cpus[:2])
    with strategy.scope():
        support_set = SupportSet(4, 2, seed=0)

    def copies():
        return [copy.numpy() for copy in strategy.experimental_local_results(support_set.members)]

    start = copies()
    np.testing.assert_array_equal(*start)
    strategy.run(tf.function(lambda: support_set.enqueue(tf.constant(rows(7, 8))), autograph=False))
    for copy in copies():
        np.testing.assert_array_equal(copy, [*rows(7, 8), *start[0][2:]])
    # This is how a checkpoint is restored.
    support_set.members.assign(rows(1, 2, 3, 4))
    for copy in copies():
        np.testing.assert_array_equal(copy, rows(1, 2, 3, 4))
