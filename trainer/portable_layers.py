"""Substitutes for layers that a file format cannot hold: layers of Keras that compute the same at inference."""

import functools

import keras
import numpy as np

from trainer.layers import batch_norm, convolution, pixel_scale, positions, relu


@functools.singledispatch
def substitute(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Returns a new layer with the same weights, or the layer itself if it needs no substitute.

    Args:
        layer: A layer of a functional or sequential model.
    """
    return layer


@substitute.register
def _(layer: batch_norm.BatchNormalization) -> keras.layers.Layer:
    config = layer.get_config()
    norm = keras.layers.BatchNormalization(momentum=config["momentum"], epsilon=config["epsilon"], name=layer.name)
    norm.build_from_config(layer.get_build_config())
    # By name, because the order of the weights depends on which of them are trained.
    for weight in ("gamma", "beta", "moving_mean", "moving_variance"):
        getattr(norm, weight).assign(getattr(layer, weight))
    return norm


@substitute.register
def _(layer: convolution.Conv2D) -> keras.layers.Layer:
    convolve = keras.layers.Conv2D.from_config(layer.get_config())
    convolve.build_from_config(layer.get_build_config())
    convolve.set_weights(layer.get_weights())
    return convolve


@substitute.register
def _(layer: keras.layers.Conv2D) -> keras.layers.Layer:
    if not 1 < layer.groups == layer.filters == layer.get_build_config()["input_shape"][-1]:
        return layer
    # Keras compiles convolutions of groups by XLA, whose programs tf2onnx cannot translate.
    config = layer.get_config()
    same = ("name", "kernel_size", "strides", "padding", "dilation_rate", "use_bias", "activation")
    depthwise = keras.layers.DepthwiseConv2D(**{key: config[key] for key in same})
    depthwise.build_from_config(layer.get_build_config())
    kernel, *bias = layer.get_weights()
    depthwise.set_weights([kernel.transpose(0, 1, 3, 2), *bias])
    return depthwise


@substitute.register
def _(layer: relu.ReLU) -> keras.layers.Layer:
    return keras.layers.ReLU.from_config(layer.get_config())


@substitute.register
def _(layer: keras.layers.Normalization) -> keras.layers.Layer:
    # tf2onnx takes the constants of this layer for inputs.
    mean, deviation = np.ravel(layer.mean), np.sqrt(np.ravel(layer.variance))
    return keras.layers.Rescaling((1 / deviation).tolist(), (-mean / deviation).tolist(), name=layer.name)


@substitute.register
def _(layer: pixel_scale.PixelScale) -> keras.layers.Layer:
    # Every scale multiplies, adds and orders the three colours, as a product with a matrix does.
    zero, colours = layer(np.zeros((1, 3))).numpy()[0], layer(np.eye(3)).numpy()
    scale = keras.layers.Dense(3, trainable=False, name=layer.name)
    scale.build((None, 3))
    scale.set_weights([colours - zero, zero])
    return scale


@substitute.register
def _(layer: positions.Positions) -> keras.layers.Layer:
    config, channels = layer.get_config(), layer.output.shape[-1]
    added = layer(np.zeros((1, config["rows"], config["columns"], channels))).numpy()[0]
    return keras.layers.Rescaling(1.0, added.tolist(), name=layer.name)
