"""Batch norm computes what Keras' own layer does, on any number of devices."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.conftest import mirrored
from trainer.layers.batch_norm import EPSILON, BatchNormalization


def trained(layer, inputs, targets):
    """Outputs, gradients of a loss, and state after a step in training; and the outputs at inference then."""
    x = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x, training=True)
        loss = tf.reduce_sum(outputs * targets)
    gradients = tape.gradient(loss, [x, *[variable.value for variable in layer.trainable_variables]])
    state = [variable.numpy() for variable in layer.variables]
    return [outputs, *gradients, *state, layer(x, training=False)]


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (8, 3)])
def test_equals_keras(shape):
    rng = np.random.default_rng(0)
    inputs = rng.normal(3.0, 2.0, size=shape).astype(np.float32)
    targets = rng.normal(size=shape).astype(np.float32)
    ours = BatchNormalization(momentum=0.8)
    theirs = keras.layers.BatchNormalization(momentum=0.8, epsilon=EPSILON)
    for layer in (ours, theirs):
        layer.build((None, *shape[1:]))
        layer.gamma.assign(np.array([0.5, 1.0, 2.0], np.float32))
        layer.beta.assign(np.array([0.0, -1.0, 1.0], np.float32))
    found, expected = trained(ours, inputs, targets), trained(theirs, inputs, targets)
    # Keras' moving variance is the biased one, TensorFlow's fused operation has the unbiased one.
    values = np.prod(shape[:-1])
    expected[-2] = 0.8 + (expected[-2] - 0.8) * values / (values - 1)
    for a, b in zip(found[:-1], expected[:-1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    mean, variance = ours.moving_mean.numpy(), ours.moving_variance.numpy()
    at_inference = (inputs - mean) / np.sqrt(variance + EPSILON) * [0.5, 1.0, 2.0] + [0.0, -1.0, 1.0]
    np.testing.assert_allclose(found[-1], at_inference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("replicas", [2, 4])
@pytest.mark.parametrize("shape", [(8, 5, 4, 3), (8, 3)])
def test_statistics_are_those_of_the_global_batch(logical_cpus, replicas, shape):
    rng = np.random.default_rng(0)
    # A mean much larger than the deviation: a mean of squares would lose its digits.
    inputs = rng.normal(300.0, 0.5, size=shape).astype(np.float32)
    targets = rng.normal(size=shape).astype(np.float32)
    alone = BatchNormalization()
    alone.build((None, *shape[1:]))
    expected = trained(alone, inputs, targets)
    strategy = mirrored(logical_cpus[:replicas])
    with strategy.scope():
        layer = BatchNormalization()
        layer.build((None, *shape[1:]))

    def replica_step():
        context = tf.distribute.get_replica_context()
        share = shape[0] // replicas
        start = context.replica_id_in_sync_group * share
        x, wanted = tf.constant(inputs)[start : start + share], tf.constant(targets)[start : start + share]
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
            loss = tf.reduce_sum(outputs * wanted)
        return [outputs, *tape.gradient(loss, [x, *[variable.value for variable in layer.trainable_variables]])]

    shares = strategy.run(tf.function(replica_step, autograph=False))
    locals_ = [strategy.experimental_local_results(share) for share in shares]
    found = [tf.concat(share, axis=0) for share in locals_[:2]] + [tf.add_n(share) for share in locals_[2:]]
    found += [variable.numpy() for variable in layer.variables]
    for a, b in zip(found, expected[:-1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-3)


def test_bfloat16_stays_close_and_keeps_statistics_in_float32():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(64, 8, 8, 3)).astype(np.float32)
    layers = [BatchNormalization(dtype=policy) for policy in ("float32", "mixed_bfloat16")]
    exact, rounded = (layer(tf.constant(inputs), training=True) for layer in layers)
    assert rounded.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(rounded, tf.float32), exact, atol=0.05)
    assert {variable.dtype for variable in layers[1].variables} == {"float32"}
