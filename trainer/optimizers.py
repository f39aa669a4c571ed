"""Optimisers and learning rates; they are Keras' own if Keras has them."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from trainer.config import OptimizerSettings


class LearningRate(keras.optimizers.schedules.CosineDecay):
    """The learning rate after a number of steps.

    It rises linearly from 0 and then stays constant, or falls to 0 as half a cosine (arXiv 1608.03983).

    Args:
        settings: Settings of the optimiser.
        batch_size: Number of images in a step, which the rate may be scaled to.
        steps: Length of the whole training.
        warmup: Length of the rise, shorter than `steps`.
    """

    def __init__(self, settings: OptimizerSettings, batch_size: int, steps: int, warmup: int):
        peak = settings.peak(batch_size)
        super().__init__(
            0.0 if warmup else peak,
            # A variable, so that a new length needs no new graph.
            decay_steps=tf.Variable(1.0, trainable=False, name="decay_steps"),
            # The final rate as a share of the peak.
            alpha=0.0 if settings.schedule == "cosine" else 1.0,
            warmup_target=peak if warmup else None,
            warmup_steps=warmup,
        )
        self.set_length(steps)

    @property
    def steps(self) -> tf.Tensor:
        """The length of the whole training in steps, a float32 scalar."""
        return self.decay_steps + float(self.warmup_steps)

    def set_length(self, steps: int) -> None:
        """Changes the length of the whole training."""
        self.decay_steps.assign(max(steps - self.warmup_steps, 1))


def build_optimizer(
    settings: OptimizerSettings,
    rate: keras.optimizers.schedules.LearningRateSchedule,
    variables: list[keras.Variable],
    shares: Sequence[float] = (),
) -> keras.optimizers.Optimizer:
    """Builds the configured optimiser. Its gradients must already be summed over the replicas.

    Biases and batch norm's gamma and beta do not decay, and LARS does not adapt their rate.

    Args:
        settings: Settings of the optimiser.
        rate: The learning rate after a number of steps.
        variables: The variables that the optimiser will update.
        shares: The share of the learning rate for each variable; without them, all have the whole rate.
    """
    optimizer: keras.optimizers.Optimizer
    match settings.name:
        case "adam":
            optimizer = keras.optimizers.Adam(rate)
        case "adamw":
            optimizer = AdamW(rate, settings.weight_decay)
        case "sgd":
            optimizer = SGD(rate, settings.momentum, settings.weight_decay)
        case "lars":
            optimizer = LARS(rate, settings.momentum, settings.weight_decay)
    optimizer.build(variables)
    # Keras would sum the gradients over the replicas itself, after clipping each replica's share, and has no option to
    # turn that off. Without this hook, several devices would not equal one: see tests/trainer/test_devices.py.
    optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables
    if any(share != 1 for share in shares):
        _scale_rates(optimizer, shares)
    return optimizer


def _scale_rates(optimizer: keras.optimizers.Optimizer, shares: Sequence[float]) -> None:
    update = optimizer.update_step

    def scaled(gradient, variable, learning_rate) -> None:
        update(gradient, variable, learning_rate * shares[optimizer._get_variable_index(variable)])

    optimizer.update_step = scaled


def _is_vector(variable) -> bool:
    """Tells biases and batch norm's parameters from kernels."""
    return len(variable.shape) <= 1


class AdamW(keras.optimizers.Adam):
    """Adam with decoupled weight decay (arXiv 1711.05101), which follows the rate that each variable is trained with.

    Args:
        learning_rate: The learning rate, a number or a schedule.
        decay: The weight decay of kernels.
    """

    def __init__(self, learning_rate, decay: float):
        # Keras' own weight decay follows the optimiser's rate, without the variable's share of it.
        super().__init__(learning_rate)
        self._decay = decay

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Updates one variable."""
        if self._decay and not _is_vector(variable):
            self.assign_sub(variable, self._decay * tf.cast(learning_rate, variable.dtype) * variable)
        super().update_step(gradient, variable, learning_rate)


class SGD(keras.optimizers.SGD):
    """Stochastic gradient descent with momentum and L2 regularisation, as in PyTorch and the published recipes.

    Keras' own weight decay bypasses the momentum: with a momentum of 0.9 it is ten times weaker at the same setting.

    Args:
        learning_rate: The learning rate, a number or a schedule.
        momentum: The momentum.
        decay: L2 regularisation of kernels, which is part of the gradient.
    """

    def __init__(self, learning_rate, momentum: float = 0.9, decay: float = 0.0):
        super().__init__(learning_rate, momentum=momentum)
        self._decay = decay

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Updates one variable."""
        if self._decay and not _is_vector(variable):
            gradient = gradient + self._decay * variable
        super().update_step(gradient, variable, learning_rate)


class LARS(keras.optimizers.Optimizer):
    """Layer-wise adaptive rate scaling (arXiv 1708.03888), as SimCLR uses it (arXiv 2002.05709, appendix B).

    For kernels w with gradient g: u = g + decay w; v = momentum v + rate (trust |w| / |u|) u; w = w - v. For biases and
    batch norm, u = g, and the factor in brackets is 1.

    Args:
        learning_rate: The learning rate, a number or a schedule.
        momentum: Momentum of the velocity v.
        decay: L2 regularisation, which is part of the gradient and so of its norm.
        trust: The trust coefficient, eta in the paper.
    """

    def __init__(self, learning_rate, momentum: float = 0.9, decay: float = 0.0, trust: float = 1e-3):
        # Keras' own weight decay is not passed on: it would bypass the adaptation of the rate.
        super().__init__(learning_rate, name="lars")
        self._momentum, self._decay, self._trust = momentum, decay, trust

    def build(self, variables) -> None:
        """Creates the velocity of each variable."""
        if not self.built:
            super().build(variables)
            self._velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Updates one variable."""
        rate = tf.cast(learning_rate, variable.dtype)
        if not _is_vector(variable):
            gradient = gradient + self._decay * variable
            norms = tf.norm(variable), tf.norm(gradient)
            rate *= tf.where((norms[0] > 0) & (norms[1] > 0), self._trust * norms[0] / norms[1], 1.0)
        velocity = self._velocities[self._get_variable_index(variable)]
        self.assign(velocity, self._momentum * velocity + rate * gradient)
        self.assign_sub(variable, velocity)
