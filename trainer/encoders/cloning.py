"""Copies networks of Keras layer by layer into a form that NNCLR can train.

The copy computes the same at inference, and differs in training:

- Batch norm is nnclr's, which computes the same on any number of devices.
- Layers that act at random, such as Dropout, do nothing: the views of an image differ enough, and the number of devices
  must not change a training.
- All layers are trained, also those that were frozen when the network was saved.
"""

from typing import Any

import keras
import numpy as np

from trainer.keras_networks import Unusable
from trainer.layers.batch_norm import BatchNormalization

# The attributes by which layers are known that act at random, and do nothing at inference.
_RANDOM = ("seed_generator", "drop_path_rate")


def applied(model: keras.Model, images: keras.KerasTensor, dtype: str) -> keras.KerasTensor:
    """Applies a copy of a network, with its weights, to images.

    Args:
        model: The network, with one input and one output. The layers of networks in it become layers of the copy.
        images: Images, [N, height, width, 3], of which height and width may be unknown.
        dtype: Keras dtype policy of the copy. Pixels are scaled in float32 in any policy.

    Returns:
        The output of the copy.

    Raises:
        Unusable: If a layer has no form that can be trained.
        ValueError: If a layer does not take images of this shape.
    """
    return _Copy(dtype).applied(model, images)


class _Copy:
    def __init__(self, dtype: str):
        self._dtype = dtype
        self._made: dict[int, keras.Operation] = {}
        self._names: set[str] = set()

    def applied(self, model: keras.Model, images: keras.KerasTensor) -> keras.KerasTensor:
        def call(operation: keras.Operation, *inputs, mask=None, training=None, **arguments):
            # Without a mask, and without the mode that the original call may have fixed.
            if isinstance(operation, keras.Model):
                return self.applied(operation, *inputs)
            return self._copied(operation)(*inputs, **arguments)

        # A Sequential model is a functional one inside. keras.models.clone_model does not inline the models in a model.
        functional = keras.Model(model.inputs[0], model.outputs[0])
        output = functional._run_through_graph(images, call_fn=call)
        for layer in functional.layers:
            if id(layer) in self._made and layer.weights:
                _copy_weights(layer, self._made[id(layer)])
        return output

    def _copied(self, operation: keras.Operation) -> keras.Operation:
        """Returns the copy of an operation, which is one even if it occurs in several places."""
        if id(operation) not in self._made:
            name = self._free_name(operation.name)
            if isinstance(operation, keras.Layer):
                self._made[id(operation)] = _trainable(operation, self._dtype, name)
            else:
                # For instance the sum of the outputs of two layers, which has neither weights nor a precision.
                self._made[id(operation)] = type(operation).from_config(operation.get_config() | {"name": name})
        return self._made[id(operation)]

    def _free_name(self, name: str) -> str:
        number, free = 1, name
        while free in self._names:
            number, free = number + 1, f"{name}_{number}"
        self._names.add(free)
        return free


def _trainable(layer: keras.Layer, dtype: str, name: str) -> keras.Layer:
    """Returns a new layer, which may be of another kind, with random weights."""
    common: dict[str, Any] = {"dtype": dtype, "name": name, "trainable": True}
    in_float32 = common | {"dtype": "float32"}
    if any(getattr(layer, attribute, None) for attribute in _RANDOM):
        return keras.layers.Identity(**common)
    if isinstance(layer, keras.layers.Normalization):
        # As constants of the architecture: Keras does not use such weights if they are set after the layer was built.
        mean, variance = np.ravel(layer.mean).tolist(), np.ravel(layer.variance).tolist()
        return keras.layers.Normalization(layer.axis, mean, variance, **in_float32)
    if isinstance(layer, keras.layers.BatchNormalization):
        rank = layer.input_spec.ndim
        if layer.axis not in (-1, rank - 1) or rank not in (2, 4):
            raise Unusable(f"the batch norm of its layer {layer.name} is not over the channels of images")
        # The moving averages follow in tens of steps, as in all encoders of nnclr, not in hundreds.
        return BatchNormalization(epsilon=layer.epsilon, scale=layer.scale, center=layer.center, **common)
    # bfloat16 has fewer digits than pixels.
    own = in_float32 if isinstance(layer, keras.layers.Rescaling) else common
    return type(layer).from_config(layer.get_config() | own)


def _copy_weights(theirs: keras.Layer, ours: keras.Layer) -> None:
    if isinstance(theirs, keras.layers.BatchNormalization):
        # A batch norm without gamma or beta computes with 1 or 0, with which ours begins.
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            if getattr(theirs, name) is not None:
                getattr(ours, name).assign(getattr(theirs, name))
    elif ours.weights:
        ours.set_weights(theirs.get_weights())
