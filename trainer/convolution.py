"""Convolution whose filter gradient is a matrix product where that is faster: bfloat16 on CPUs, short rows."""

import keras
import numpy as np
import tensorflow as tf

# Up to this many outputs in a row. The kernel for filter gradients (oneDNN with AMX) fills its tiles, 32 values long,
# from one row at a time: with rows of 3 it runs at a tenth of its speed, with rows of 23 it is ahead again
# (python -m tests.benchmarks.filter_gradients).
_SHORT = 12


class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` in all but speed."""

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The layer's convolution, without bias."""
        kernel = tf.convert_to_tensor(kernel)
        if not self._is_plain or not is_faster(inputs, kernel, self.strides[0]):
            return super().convolution_op(inputs, kernel)
        return convolve(inputs, kernel, self.strides[0])

    @property
    def _is_plain(self) -> bool:
        return (
            self.padding == "valid"
            and self.groups == 1
            and set(self.dilation_rate) == {1}
            and len(set(self.strides)) == 1
            and self.data_format == "channels_last"
        )


def is_faster(inputs: tf.Tensor, kernel: tf.Tensor, stride: int) -> bool:
    """Whether `convolve` is to be preferred."""
    if inputs.dtype != tf.bfloat16 or None in inputs.shape[1:] or tf.config.list_logical_devices("GPU"):
        return False
    return 0 < (inputs.shape[2] - kernel.shape[1]) // stride + 1 <= _SHORT


def convolve(inputs: tf.Tensor, kernel: tf.Tensor, stride: int) -> tf.Tensor:
    """Unpadded convolution, its filter gradient a product of patches.

    Args:
        inputs: [N, height, width, channels], of static size but for N.
        kernel: [kernel height, kernel width, channels, filters].
        stride: of both axes.
    """
    strides = [1, stride, stride, 1]

    @tf.custom_gradient
    def operation(inputs, kernel):
        def gradient(upstream):
            of_inputs = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, strides=strides, padding="VALID"
            )
            return of_inputs, _filter_gradient(inputs, upstream, kernel.shape, stride)

        return tf.nn.conv2d(inputs, kernel, stride, "VALID"), gradient

    return operation(inputs, kernel)


def _filter_gradient(inputs: tf.Tensor, upstream: tf.Tensor, shape: tf.TensorShape, stride: int) -> tf.Tensor:
    """The sum over all positions of a patch of the inputs times the gradient there."""
    (height, width, channels), (rows, columns, filters) = inputs.shape[1:], upstream.shape[1:]
    y, x, i, j = np.meshgrid(range(rows), range(columns), range(shape[0]), range(shape[1]), indexing="ij")
    places = (stride * y + i) * width + stride * x + j
    # A gather copies whole pixels: strided slices give the same patches, ten times slower.
    patches = tf.gather(tf.reshape(inputs, [-1, height * width, channels]), places.reshape(-1), axis=1)
    patches = tf.reshape(patches, [-1, int(np.prod(shape[:-1]))])
    product = tf.matmul(patches, tf.reshape(upstream, [-1, filters]), transpose_a=True)
    return tf.reshape(product, shape)
