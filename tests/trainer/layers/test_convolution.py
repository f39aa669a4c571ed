"""The convolution with its own gradients computes what Keras' does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.layers import convolution

# Height and width, channels, kernel, stride: small patches, short rows, and what is left to TensorFlow's kernel.
SHAPES = [
    ((21, 34), 3, 3, 2),
    ((9, 9), 2, (4, 2), 3),
    ((11, 11), 5, 3, 2),
    ((8, 9), 5, 3, 2),
    ((7, 5), 6, (3, 2), 1),
    ((31, 33), 5, 3, 2),
]


@pytest.mark.parametrize(("size", "channels", "kernel", "stride"), SHAPES)
def test_value_and_gradients_are_those_of_keras(size, channels, kernel, stride):
    rng = np.random.default_rng(0)
    images = tf.constant(rng.normal(size=(6, *size, channels)).astype(np.float32))
    layer = keras.layers.Conv2D(4, kernel, stride, bias_initializer="normal")
    upstream = tf.constant(rng.normal(size=layer(images).shape).astype(np.float32))
    weights = [tf.convert_to_tensor(layer.kernel), tf.convert_to_tensor(layer.bias)]

    def gradients(operation):
        with tf.GradientTape() as tape:
            tape.watch([images, *weights])
            outputs = operation(images, *weights)
        return outputs, *tape.gradient(outputs, [images, *weights], upstream)

    expected = gradients(lambda x, w, b: tf.nn.conv2d(x, w, stride, "VALID") + b)
    found = gradients(lambda x, w, b: convolution.convolve(x, w, b, stride))
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "float32"])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize(("size", "channels", "kernel", "stride"), SHAPES)
def test_layer_learns_what_that_of_keras_learns_in_float32(size, channels, kernel, stride, use_bias, precision):
    rng = np.random.default_rng(1)
    # Values that bfloat16 holds exactly.
    images = tf.constant(rng.integers(-8, 9, size=(32, *size, channels)).astype(np.float32) / 8)
    found = []
    for layers, dtype in ((convolution, precision), (keras.layers, "float32")):
        keras.utils.set_random_seed(0)
        layer = layers.Conv2D(16, kernel, stride, activation="relu", use_bias=use_bias, dtype=dtype)
        layer.build(images.shape)
        layer.set_weights([tf.cast(tf.cast(w, tf.bfloat16), tf.float32).numpy() for w in layer.get_weights()])
        with tf.GradientTape() as tape:
            outputs = layer(images)
            loss = tf.reduce_mean(tf.square(tf.cast(outputs, tf.float32)))
        values = [outputs, *tape.gradient(loss, layer.weights)]
        found.append([tf.cast(value, tf.float32).numpy() for value in values])
    assert len(found[0]) == 2 + use_bias
    for ours, exact in zip(*found, strict=True):
        assert _error(ours, exact) < (0.005 if precision == "mixed_bfloat16" else 1e-5)


def test_bias_learns_from_every_position():
    # TensorFlow's own gradient adds up in bfloat16, where 256 and 1 make 256.
    images = tf.ones([16, 33, 33, 4], tf.bfloat16)
    layer = convolution.Conv2D(8, 3, 2, dtype="bfloat16")
    with tf.GradientTape() as tape:
        outputs = layer(images)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32))
    assert tape.gradient(loss, layer.bias).numpy().tolist() == [16 * 16 * 16] * 8


def test_images_of_any_size_go_the_way_of_keras():
    layer = convolution.Conv2D(4, 3, 2, activation="relu")
    layer.build([None, None, None, 3])
    traced = tf.function(layer).get_concrete_function(tf.TensorSpec([None, None, None, 3]))
    images = tf.random.stateless_normal([2, 9, 8, 3], [0, 0])
    np.testing.assert_allclose(traced(images), layer(images), atol=1e-6)


def _error(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)))
