"""The ReLU of bfloat16 bits is the ReLU."""

import keras
import numpy as np
import tensorflow as tf

from trainer.layers.batch_norm import BatchNormalization
from trainer.layers.relu import ReLU


def _seen(layer, inputs, upstream, training=True):
    @tf.function
    def both(inputs, upstream):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=training)
        return outputs, tape.gradient(outputs, inputs, upstream)

    return [tf.cast(value, tf.float32).numpy() for value in both(inputs, upstream)]


def test_values_and_gradients_are_those_of_keras():
    rng = np.random.default_rng(0)
    edges = [0.0, -0.0, np.inf, -np.inf, 1e-38, -1e-38, 3e38, 1e-40]
    for dtype in ("bfloat16", "float32"):
        inputs = tf.cast(np.concatenate([rng.normal(size=1016), edges]).reshape(4, 4, 8, 8), dtype)
        upstream = tf.cast(rng.normal(size=inputs.shape), dtype)
        for training in (True, False):
            found = _seen(ReLU(dtype=dtype), inputs, upstream, training)
            for ours, theirs in zip(found, _seen(keras.layers.ReLU(dtype=dtype), inputs, upstream), strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_divergence_shows_in_the_gradients_of_the_normalisation_before_it():
    norm, relu = BatchNormalization(dtype="mixed_bfloat16"), ReLU(dtype="mixed_bfloat16")
    for sign in (-1, 1):
        inputs = tf.random.stateless_normal([4, 4, 4, 2], [0, 0]) * tf.constant([1.0, sign * np.nan])
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(relu(norm(inputs, training=True), training=True))
        assert np.isnan(tape.gradient(loss, norm.gamma).numpy()).tolist() == [False, True]


def test_at_inference_it_is_an_operation_that_others_know():
    layer = ReLU(dtype="bfloat16")
    traced = tf.function(layer).get_concrete_function(tf.TensorSpec([None, 2], tf.bfloat16))
    operations = {operation.type for operation in traced.graph.get_operations()}
    assert operations == {"Placeholder", "Relu", "Identity"}
