"""What replicas share with each other."""

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.conftest import mirrored
from trainer import replicas


@pytest.mark.parametrize("count", [1, 2, 4])
def test_stacks_exactly_and_hands_gradients_back(logical_cpus, count):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(count, 3, 2)).astype(np.float32)
    values[0, 0] = np.inf, np.nan
    # Each replica weighs the elements differently, so that its share of the gradient differs.
    weights = rng.normal(size=(count, *values.shape)).astype(np.float32)
    strategy = mirrored(logical_cpus[:count])

    def replica_step():
        own = tf.distribute.get_replica_context().replica_id_in_sync_group
        with tf.GradientTape() as tape:
            local = tf.constant(values)[own]
            tape.watch(local)
            stacked = replicas.stack(local)
            loss = tf.reduce_sum(stacked * tf.constant(weights)[own])
        return stacked, tape.gradient(loss, local)

    stacked, gradients = strategy.run(tf.function(replica_step, autograph=False))
    for found in strategy.experimental_local_results(stacked):
        np.testing.assert_array_equal(found, values)
    np.testing.assert_allclose(strategy.experimental_local_results(gradients), weights.sum(axis=0), rtol=1e-5)
