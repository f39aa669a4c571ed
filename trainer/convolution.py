"""Convolution whose weights' gradients are matrix products where that is faster: bfloat16 on CPUs, certain shapes.

The kernel for filter gradients (oneDNN with AMX) fills its tiles, 32 values long, from one row of outputs or one pixel's
channels at a time. Where there are few of either, it runs at a fraction of its speed
(python -m tests.benchmarks.filter_gradients).
"""

import keras
import numpy as np
import tensorflow as tf

from trainer.relu import relu_gradient

# Up to this many outputs in a row: with rows of 3 the kernel runs at a tenth of its speed, with 23 it is ahead again.
_SHORT = 12
# The values of a patch, and one for the bias, that are gathered by a convolution: as long as a tile.
_TILE = 32


class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` in all but speed."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """[N, height, width, channels] to [N, rows, columns, filters]."""
        kernel = tf.convert_to_tensor(self.kernel)
        if not self._is_plain or not is_faster(inputs, kernel, self.strides[0]):
            return super().call(inputs)
        bias = tf.convert_to_tensor(self.bias) if self.use_bias else None
        return convolve(inputs, kernel, bias, self.strides[0], relu=self.activation is keras.activations.relu)

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


def is_faster(inputs: tf.Tensor, kernel: tf.Tensor, stride: int) -> bool:
    """Whether `convolve` is to be preferred."""
    if inputs.dtype != tf.bfloat16 or None in inputs.shape[1:] or tf.config.list_logical_devices("GPU"):
        return False
    return _is_small(kernel.shape) or 0 < (inputs.shape[2] - kernel.shape[1]) // stride + 1 <= _SHORT


def convolve(
    inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None = None, stride: int = 1, relu: bool = False
) -> tf.Tensor:
    """Unpadded convolution, the gradients of its weights products of patches and the outputs' gradients.

    Args:
        inputs: [N, height, width, channels], of static size but for N.
        kernel: [kernel height, kernel width, channels, filters].
        bias: [filters], or none.
        stride: of both axes.
        relu: whether negative outputs become 0.
    """
    strides = [1, stride, stride, 1]

    # All in one, as TensorFlow fuses convolution, bias and ReLU only where nothing stands between them.
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
            of_inputs = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, strides=strides, padding="VALID"
            )
            weights = _gradients_by_convolution if _is_small(kernel.shape) else _gradients_by_gathering
            of_kernel, of_bias = weights(inputs, upstream, kernel.shape, stride)
            return of_inputs, of_kernel, *([of_bias] if bias else [])

        return outputs, gradient

    return operation(inputs, kernel, *([] if bias is None else [bias]))


def _is_small(kernel: tf.TensorShape) -> bool:
    return int(np.prod(kernel[:-1])) < _TILE


def _gradients_by_convolution(
    inputs: tf.Tensor, upstream: tf.Tensor, kernel: tf.TensorShape, stride: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """A convolution with a kernel of zeros and ones copies each patch, and a 1 for the bias, into one pixel."""
    values, (rows, columns, filters) = int(np.prod(kernel[:-1])), upstream.shape[1:]
    copying = tf.constant(np.eye(values, _TILE).reshape(*kernel[:-1], _TILE), inputs.dtype)
    one = tf.constant(np.eye(_TILE)[values], inputs.dtype)
    patches = tf.nn.bias_add(tf.nn.conv2d(inputs, copying, stride, "VALID"), one)
    # One product for each image: the products of a few hundred rows stay in the cache, and lose fewer digits.
    patches = tf.reshape(patches, [-1, rows * columns, _TILE])
    products = tf.matmul(patches, tf.reshape(upstream, [-1, rows * columns, filters]), transpose_a=True)
    total = tf.cast(tf.reduce_sum(tf.cast(products, tf.float32), axis=0), inputs.dtype)
    return tf.reshape(total[:values], kernel), total[values]


def _gradients_by_gathering(
    inputs: tf.Tensor, upstream: tf.Tensor, kernel: tf.TensorShape, stride: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The sum over all positions of a patch of the inputs times the gradient there."""
    (height, width, channels), (rows, columns, filters) = inputs.shape[1:], upstream.shape[1:]
    y, x, i, j = np.meshgrid(range(rows), range(columns), range(kernel[0]), range(kernel[1]), indexing="ij")
    places = (stride * y + i) * width + stride * x + j
    # A gather copies whole pixels: strided slices give the same patches, ten times slower.
    patches = tf.gather(tf.reshape(inputs, [-1, height * width, channels]), places.reshape(-1), axis=1)
    patches = tf.reshape(patches, [-1, int(np.prod(kernel[:-1]))])
    upstream = tf.reshape(upstream, [-1, filters])
    of_kernel = tf.matmul(patches, upstream, transpose_a=True)
    # BiasAddGrad adds up in bfloat16, and of sums of 100,000 values a third is lost.
    of_bias = tf.matmul(tf.ones([1, tf.shape(upstream)[0]], upstream.dtype), upstream)
    return tf.reshape(of_kernel, kernel), of_bias[0]
