"""A convolution with faster gradients on CPUs.

In bfloat16, the kernel for filter gradients (oneDNN with AMX) fills its tiles of 32 values from the channels of one
pixel and from one row of outputs. If there are few of either, the kernel is slow, and a product of matrices replaces it
(python -m tests.benchmarks.filter_gradients).
"""

import keras
import numpy as np
import tensorflow as tf

from trainer.layers.relu import relu_gradient

# Longest row of outputs that is short for the kernel: with 3 it runs at a tenth of its speed, with 15 it is faster.
_SHORT = 12
# Length of a tile, which is longer than a 3x3 patch of three colours.
_TILE = 32


class Conv2D(keras.layers.Conv2D):
    """The same as `keras.layers.Conv2D`, but faster."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps [N, height, width, channels] to [N, rows, columns, filters]."""
        if not self._is_plain or None in inputs.shape[1:] or tf.config.list_logical_devices("GPU"):
            return super().call(inputs)
        bias = tf.convert_to_tensor(self.bias) if self.use_bias else None
        relu = self.activation is keras.activations.relu
        return convolve(inputs, tf.convert_to_tensor(self.kernel), bias, self.strides[0], relu)

    @property
    def _is_plain(self) -> bool:
        return (
            self.padding == "valid"
            and self.groups == 1
            and set(self.dilation_rate) == {1}
            and len(set(self.strides)) == 1
            and self.data_format == "channels_last"
            and self.activation in (keras.activations.linear, keras.activations.relu)
        )


def convolve(
    inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None = None, stride: int = 1, relu: bool = False
) -> tf.Tensor:
    """Convolves without padding.

    Args:
        inputs: float32 or bfloat16 [N, height, width, channels]. Only N may be unknown when the graph is built.
        kernel: [kernel height, kernel width, channels, filters].
        bias: [filters]; None adds nothing.
        stride: Stride of both axes.
        relu: Whether negative outputs become 0.
    """
    strides = [1, stride, stride, 1]

    # One operation, because TensorFlow fuses convolution, bias and ReLU only if nothing is between them.
    @tf.custom_gradient
    def operation(inputs, kernel, *bias):
        outputs = tf.nn.conv2d(inputs, kernel, stride, "VALID")
        if bias:
            outputs = tf.nn.bias_add(outputs, *bias)
        if relu:
            outputs = tf.nn.relu(outputs)

        def gradient(upstream):
            if relu:
                upstream = relu_gradient(upstream, outputs)
            kernel_gradient, bias_gradient = _weight_gradients(inputs, upstream, kernel.shape, stride)
            # One after the other, because at the same time each would have half of the cores and of the cache.
            with tf.control_dependencies([kernel_gradient]):
                input_gradient = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, strides=strides, padding="VALID"
                )
            return input_gradient, kernel_gradient, *([bias_gradient] if bias else [])

        return outputs, gradient

    return operation(inputs, kernel, *([] if bias is None else [bias]))


def _weight_gradients(
    inputs: tf.Tensor, upstream: tf.Tensor, kernel: tf.TensorShape, stride: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the gradients of kernel and bias.

    The kernel's gradient is the sum over all positions of a patch of the inputs times the output's gradient there.
    """
    if int(np.prod(kernel[:-1])) < _TILE:
        return _product_of_small_patches(inputs, upstream, kernel, stride)
    if inputs.dtype == tf.bfloat16 and upstream.shape[2] <= _SHORT:
        return _product_of_patches(inputs, upstream, kernel, stride), _bias_gradient(upstream)
    strides = [1, stride, stride, 1]
    kernel_gradient = tf.raw_ops.Conv2DBackpropFilter(
        input=inputs, filter_sizes=kernel, out_backprop=upstream, strides=strides, padding="VALID"
    )
    return kernel_gradient, _bias_gradient(upstream)


def _product_of_small_patches(
    inputs: tf.Tensor, upstream: tf.Tensor, kernel: tf.TensorShape, stride: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes both gradients as a product, for patches that fit into a tile.

    A convolution with a kernel of zeros and ones copies each patch, and a 1 for the bias, into one pixel.
    """
    values, positions = int(np.prod(kernel[:-1])), int(np.prod(upstream.shape[1:3]))
    copying = tf.constant(np.eye(values, _TILE).reshape(*kernel[:-1], _TILE), inputs.dtype)
    one = tf.constant(np.eye(_TILE)[values], inputs.dtype)
    patches = tf.nn.bias_add(tf.nn.conv2d(inputs, copying, stride, "VALID"), one)
    # One product for each image, so that the rows stay in the cache and the sum of the products is in float32.
    patches = tf.reshape(patches, [-1, positions, _TILE])
    products = tf.matmul(patches, tf.reshape(upstream, [-1, positions, kernel[-1]]), transpose_a=True)
    total = tf.cast(tf.reduce_sum(tf.cast(products, tf.float32), axis=0), inputs.dtype)
    return tf.reshape(total[:values], kernel), total[values]


def _product_of_patches(inputs: tf.Tensor, upstream: tf.Tensor, kernel: tf.TensorShape, stride: int) -> tf.Tensor:
    (height, width, channels), (rows, columns, filters) = inputs.shape[1:], upstream.shape[1:]
    y, x, i, j = np.meshgrid(range(rows), range(columns), range(kernel[0]), range(kernel[1]), indexing="ij")
    pixels = (stride * y + i) * width + stride * x + j
    # A gather copies whole pixels. Strided slices give the same patches, but are ten times slower.
    patches = tf.gather(tf.reshape(inputs, [-1, height * width, channels]), pixels.reshape(-1), axis=1)
    patches = tf.reshape(patches, [-1, int(np.prod(kernel[:-1]))])
    product = tf.matmul(patches, tf.reshape(upstream, [-1, filters]), transpose_a=True)
    return tf.reshape(product, kernel)


def _bias_gradient(upstream: tf.Tensor) -> tf.Tensor:
    if upstream.dtype != tf.bfloat16:
        return tf.raw_ops.BiasAddGrad(out_backprop=upstream)
    # BiasAddGrad adds in bfloat16 and loses a third of 100,000 values. A product with ones adds in float32.
    rows = tf.reshape(upstream, [-1, upstream.shape[-1]])
    return tf.matmul(tf.ones([1, tf.shape(rows)[0]], rows.dtype), rows)[0]
