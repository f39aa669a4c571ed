"""A training step on random images, and the number of its arithmetic operations."""

import keras
import numpy as np
import tensorflow as tf

from trainer import checks, devices, loop, memory
from trainer.config import TrainerSettings
from trainer.plan import Plan

_CLASSES = 10
# The assumed size of the data set: large enough for every learning-rate schedule.
_IMAGES = 100_000
_MATRIX, _PRODUCTS = 2048, 5


class Step:
    """Runs one step of `trainer.loop` at each call, on images that are already in memory.

    Args:
        settings: Settings of the trainer, with the precision to measure.
        size: Height and width of the images in pixels.
        strategy: The distribution strategy. By default it is the strategy that the trainer would choose.

    Raises:
        SettingsError: If a batch cannot be divided evenly among the replicas.
    """

    def __init__(
        self, settings: TrainerSettings, size: tuple[int, int], strategy: tf.distribute.Strategy | None = None
    ):
        self.settings, self._size = settings, size
        strategy = strategy or devices.default_strategy(settings.devices, settings.xla)
        checks.check(settings, _IMAGES, strategy.num_replicas_in_sync)
        self.model, training_step = loop.build(settings, Plan.of(settings, _IMAGES), size, _CLASSES, strategy)
        rng = np.random.default_rng(settings.seed)
        replicas = strategy.num_replicas_in_sync

        def images(rows: int):
            pixels = rng.integers(0, 256, (replicas, rows // replicas, *size, 3), np.uint8)
            return strategy.experimental_distribute_values_from_function(
                lambda context: tf.constant(pixels[context.replica_id_in_sync_group])
            )

        probe_rows = settings.online_probe.batch_size
        labels = tf.constant(rng.integers(0, _CLASSES, probe_rows // replicas))
        self._batch = {"image": images(settings.batch_size)}, {"image": images(probe_rows)}

        @tf.function(autograph=False)
        def step(unlabelled, labelled, number):
            def replica_step(unlabelled, labelled, number):
                return training_step(unlabelled, labelled | {"label": labels}, number)

            shares = strategy.run(replica_step, args=(unlabelled, labelled, number))
            return strategy.reduce(tf.distribute.ReduceOp.SUM, shares["c_loss"], None)

        self._step, self._number = step, 0

    def __call__(self) -> float:
        """Runs one update and returns its loss.

        Raises:
            SettingsError: If the memory does not suffice.
        """
        with memory.explained(self.settings):
            loss = float(self._step(*self._batch, tf.constant(self._number, tf.int64)))
        self._number += 1
        return loss

    def flops(self) -> float:
        """Returns the number of floating-point operations of one update in the encoder and its heads.

        A multiplication and an addition count as two operations. A backward pass counts as two forward passes, without
        the gradient with respect to the images. Augmentation, losses, neighbour search, optimizer and online probe are
        not counted.
        """
        model, (height, width) = self.model, self._size
        heads = [model.projection, *([model.prediction] if model.prediction else [])]
        costs = [cost for network in heads for cost in _forward_flops(network, network.input_shape[1:])]
        encoder = _forward_flops(model.encoder, (height, width, 3))
        return 2 * self.settings.batch_size * (3 * (sum(encoder) + sum(costs)) - encoder[0])


def _forward_flops(network: keras.Model, shape: tuple[int, ...]) -> list[float]:
    """Returns the operations of each convolution and matrix product, in order, for one input of this shape."""
    traced = tf.function(lambda inputs: network(inputs, training=False), autograph=False)
    costs = []
    for operation in traced.get_concrete_function(tf.TensorSpec([1, *shape])).graph.get_operations():
        if operation.type in ("Conv2D", "MatMul"):
            kernel = operation.inputs[1].shape
            costs.append(2.0 * int(np.prod(operation.outputs[0].shape)) * int(np.prod(kernel[:-1])))
    return costs


class MatrixProduct:
    """Multiplies large square matrices at each call, to measure the arithmetic limit of the machine in a precision.

    Args:
        precision: `float32` or `bfloat16`.

    Attributes:
        flops: Floating-point operations of one call.
    """

    flops = _PRODUCTS * 2.0 * _MATRIX**3

    def __init__(self, precision: str):
        matrix = tf.cast(tf.random.stateless_normal([_MATRIX, _MATRIX], [0, 0]), precision)

        @tf.function(autograph=False)
        def product():
            # Each product depends on the one before, so that TensorFlow cannot skip any.
            result = matrix
            for _ in range(_PRODUCTS):
                result = tf.matmul(matrix, result)
            return result[0, 0]

        self._product = product

    def __call__(self) -> float:
        """Multiplies the matrices and returns one element of the result."""
        return float(self._product())
