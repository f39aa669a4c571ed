"""Freezes an encoder's first layers, lets them learn more slowly, and keeps the statistics of its batch norm."""

from collections.abc import Iterator

import keras

from trainer.layers.batch_norm import BatchNormalization


def in_order(model: keras.Model) -> Iterator[keras.Layer]:
    """Yields the layers of a model, and of the models in it, from the images on."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from in_order(layer)
        else:
            yield layer


def freeze(encoder: keras.Model, share: float) -> None:
    """Keeps the weights of an encoder's first layers. Their batch norm computes as at inference.

    Args:
        encoder: The encoder to change.
        share: Share of its layers with weights that stay as they are, from 0 to 1.
    """
    with_weights = [layer for layer in in_order(encoder) if layer.weights]
    for layer in with_weights[: round(share * len(with_weights))]:
        layer.trainable = False


def keep_statistics(encoder: keras.Model) -> None:
    """Lets an encoder's batch norm normalise by its moving averages during training, and keep them.

    Other images have other statistics. A network that normalises by these loses much of what its pretraining taught it
    (docs/measurements.md, What a pretrained start reaches).
    """
    for layer in in_order(encoder):
        if isinstance(layer, BatchNormalization):
            layer.keeps_statistics = True


def rates(encoder: keras.Model, first: float, variables: list[keras.Variable]) -> list[float]:
    """Returns the share of the learning rate that each variable is trained with.

    Args:
        encoder: The encoder.
        first: The share of the encoder's first trained layer. The shares rise geometrically with each further layer.
        variables: Variables of the encoder and of the heads, which would be the next layer and have the share 1.
    """
    trained = [layer for layer in in_order(encoder) if layer.trainable_variables]
    shares = {
        id(variable): first ** (1 - place / len(trained))
        for place, layer in enumerate(trained)
        for variable in layer.trainable_variables
    }
    return [shares.get(id(variable), 1.0) for variable in variables]
