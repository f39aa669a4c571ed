"""The convolution with its own filter gradient computes what Keras' does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer import convolution


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [((11, 11), 3, 2), ((8, 9), 3, 2), ((7, 5), (3, 2), 1), ((9, 9), 1, 3)]
)
def test_value_and_gradients_are_those_of_keras(size, kernel, stride):
    rng = np.random.default_rng(0)
    images = tf.constant(rng.normal(size=(6, *size, 5)).astype(np.float32))
    keras.utils.set_random_seed(0)
    layer = keras.layers.Conv2D(4, kernel, stride, use_bias=False)
    expected_outputs = layer(images)
    upstream = tf.constant(rng.normal(size=expected_outputs.shape).astype(np.float32))
    kernel_values = tf.convert_to_tensor(layer.kernel)

    def gradients(operation):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel_values])
            outputs = operation(images, kernel_values)
        return outputs, *tape.gradient(outputs, [images, kernel_values], upstream)

    expected = gradients(lambda x, w: tf.nn.conv2d(x, w, stride, "VALID"))
    found = gradients(lambda x, w: convolution.convolve(x, w, stride))
    np.testing.assert_array_equal(found[0], expected_outputs)
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-5)


def test_layer_in_bfloat16_learns_what_the_other_kernel_learns():
    rng = np.random.default_rng(1)
    images = tf.constant(rng.normal(size=(32, 11, 11, 8)).astype(np.float32))
    found = {}
    for name, layers in (("ours", convolution), ("keras", keras.layers)):
        keras.utils.set_random_seed(0)
        layer = layers.Conv2D(16, 3, 2, activation="relu", dtype="mixed_bfloat16")
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tf.cast(layer(images), tf.float32)))
        found[name] = [float(loss), *(tf.cast(g, tf.float32).numpy() for g in tape.gradient(loss, layer.weights))]
    assert found["ours"][0] == found["keras"][0]
    for ours, theirs in zip(found["ours"][1:], found["keras"][1:], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=0.01 * np.abs(theirs).max())


def test_is_for_short_rows_in_bfloat16_only():
    def wanted(width, dtype=tf.bfloat16):
        images, kernel = tf.zeros([1, 9, width, 2], dtype), tf.zeros([3, 3, 2, 2], dtype)
        return convolution.is_faster(images, kernel, stride=2)

    assert [wanted(width) for width in (2, 3, 25, 27)] == [False, True, True, False]
    assert not wanted(9, tf.float32)
