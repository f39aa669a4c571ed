"""A step of all replicas as one graph."""

from collections.abc import Callable

import tensorflow as tf


class GlobalStep:
    """Runs a function on every replica, in one graph, and sums the metrics that it returns.

    There is one graph for each value of arguments that are not tensors.

    Args:
        strategy: The strategy whose replicas run the function.
        replica_step: Runs in a replica context and returns this replica's shares of the metrics, scalars by name.
    """

    def __init__(self, strategy: tf.distribute.Strategy, replica_step: Callable[..., dict[str, tf.Tensor]]):
        self._strategy, self._replica_step = strategy, replica_step
        self._names: list[str] = []
        #: The TensorFlow function; see `__call__`.
        self.function = tf.function(self._step, autograph=False)

    def __call__(self, *arguments) -> tf.Tensor:
        """Makes one step and returns its metrics, float32 [metrics], which `named` reads."""
        return self.function(*arguments)

    def named(self, metrics: tf.Tensor) -> dict[str, float]:
        """Waits for the metrics of a step and returns them by name."""
        return dict(zip(self._names, metrics.numpy().tolist(), strict=True))

    def _step(self, *arguments) -> tf.Tensor:
        # The metrics are one vector, so that each step costs one sum over the replicas and one transfer to the host.
        return self._strategy.reduce(
            tf.distribute.ReduceOp.SUM, self._strategy.run(self._vector, args=arguments), axis=None
        )

    def _vector(self, *arguments) -> tf.Tensor:
        shares = self._replica_step(*arguments)
        self._names[:] = shares
        return tf.stack([tf.cast(share, tf.float32) for share in shares.values()])
