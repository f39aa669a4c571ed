"""ReLU that is as fast in bfloat16 on CPUs as memory allows.

TensorFlow's loops over bfloat16 and int16 have no vector instructions of their own. The compiler adds them, but not
where a result may be written over an input: there, a ReLU's gradient takes two to eight times as long. TensorFlow
writes over whatever nobody else needs; a function that is not inlined still holds its arguments.
"""

import keras
import tensorflow as tf

_not_inlined = tf.function(autograph=False, experimental_attributes={"_noinline": True})


class ReLU(keras.layers.ReLU):
    """`keras.layers.ReLU` in all but speed, and that in training NaN may become 0.

    Put it behind a normalisation: its gradient is NaN where its outputs are, so that no divergence goes unseen.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Of the inputs' shape; at inference nothing stands in the way of what TensorFlow fuses."""
        if training and inputs.dtype == tf.bfloat16 and not tf.config.list_logical_devices("GPU"):
            return _relu(inputs)
        return super().call(inputs)


@tf.custom_gradient
def _relu(inputs: tf.Tensor):
    outputs = _values(inputs)
    return outputs, lambda upstream: relu_gradient(upstream, outputs)


# A bfloat16 is positive where its bits are, as a number of two's complement; so neither function converts to float32.
@_not_inlined
def _values(inputs: tf.Tensor) -> tf.Tensor:
    return tf.bitcast(tf.nn.relu(tf.bitcast(inputs, tf.int16)), tf.bfloat16)


@_not_inlined
def _where_positive(upstream: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    bits = tf.raw_ops.ReluGrad(gradients=tf.bitcast(upstream, tf.int16), features=tf.bitcast(outputs, tf.int16))
    return tf.bitcast(bits, tf.bfloat16)


def relu_gradient(upstream: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """`upstream` where `outputs` of a ReLU are positive, 0 elsewhere; both of one shape."""
    if outputs.dtype == tf.bfloat16:
        return _where_positive(upstream, outputs)
    return tf.raw_ops.ReluGrad(gradients=upstream, features=outputs)
