"""The variables that a training changes, under names that are the same in every process."""

import keras
import tensorflow as tf

from trainer.model import NNCLR


def variables(model: NNCLR, optimizer: keras.optimizers.Optimizer | None = None) -> dict[str, tf.Variable]:
    """Returns the variables of the model and, if given, of its optimiser, by name.

    Checkpoints store arrays under these names, so a changed name makes unfinished trainings start anew.
    """
    parts = {network.name: network.variables for network in model.networks}
    if model.momentum is not None:
        parts |= {f"momentum_{network.name}": network.variables for network in model.momentum.networks}
    if optimizer is not None:
        parts["optimizer"] = optimizer.variables
    if model.probe is not None:
        parts["online_probe"] = model.probe.classifier.variables
        parts["probe_optimizer"] = model.probe.optimizer.variables
    named = {
        f"{part}/{i:04d}-{variable.name}": variable.value
        for part, variables_of_part in parts.items()
        for i, variable in enumerate(variables_of_part)
    }
    if model.support_set is not None:
        named["support_set/members"] = model.support_set.members
        named["support_set/pointer"] = model.support_set.pointer
    return named
