"""A ReLU that is as fast in bfloat16 on CPUs as the memory allows.

The compiler vectorises TensorFlow's loops over bfloat16 and int16, but not if a result may overwrite an input. In that
case, the gradient of a ReLU takes two to eight times as long. TensorFlow overwrites every input that nothing else
needs. The arguments of a function that is not inlined are still needed, so they are not overwritten.
"""

import keras
import tensorflow as tf

_not_inlined = tf.function(autograph=False, experimental_attributes={"_noinline": True})


class ReLU(keras.layers.ReLU):
    """The same as `keras.layers.ReLU`, but faster, and NaN may become 0 in training.

    Place it behind a normalisation, whose gradient is NaN if its outputs are, so that every divergence is noticed.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the positive inputs, and 0 for the others."""
        # At inference, Keras' own operation, which TensorFlow fuses with the operation before it.
        if training and inputs.dtype == tf.bfloat16 and not tf.config.list_logical_devices("GPU"):
            return _relu(inputs)
        return super().call(inputs)


@tf.custom_gradient
def _relu(inputs: tf.Tensor):
    outputs = _values(inputs)
    return outputs, lambda upstream: relu_gradient(upstream, outputs)


# A bfloat16 is positive if its bits are a positive int16, so that no conversion to float32 is needed.
@_not_inlined
def _values(inputs: tf.Tensor) -> tf.Tensor:
    return tf.bitcast(tf.nn.relu(tf.bitcast(inputs, tf.int16)), tf.bfloat16)


@_not_inlined
def _where_positive(upstream: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    bits = tf.raw_ops.ReluGrad(gradients=tf.bitcast(upstream, tf.int16), features=tf.bitcast(outputs, tf.int16))
    return tf.bitcast(bits, tf.bfloat16)


def relu_gradient(upstream: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Returns `upstream` where the `outputs` of a ReLU are positive, and 0 elsewhere; both have the same shape."""
    if outputs.dtype == tf.bfloat16:
        return _where_positive(upstream, outputs)
    return tf.raw_ops.ReluGrad(gradients=upstream, features=outputs)
