"""Trains, and gives all variables that the training changed, including those of the optimiser."""

from typing import Any
from unittest import mock

import numpy as np


def train_with_variables(settings, job, strategy=None) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """Returns the model, the result, and every variable by name."""
    from trainer import loop, state

    built: list[Any] = []
    build = loop.build

    def remembered(*arguments):
        built[:] = build(*arguments)
        return tuple(built)

    with mock.patch.object(loop, "build", remembered):
        model, result = loop.train(settings, job, strategy)
    variables = state.variables(model, built[1].optimizer)
    return model, result, {name: variable.numpy() for name, variable in variables.items()}
