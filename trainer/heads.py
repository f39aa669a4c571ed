"""The projection head and the prediction head, which stand between encoder and loss."""

import keras

from trainer.config import HeadSettings
from trainer.layers.batch_norm import BatchNormalization


def _head(name: str, features: int, settings: HeadSettings, norm_last: bool, dtype: str) -> keras.Model:
    stack: list[keras.layers.Layer] = []
    for i, units in enumerate(settings.units, 1):
        last = i == len(settings.units)
        norm = settings.batch_norm and (norm_last or not last)
        stack.append(keras.layers.Dense(units, use_bias=not norm, dtype=dtype, name=f"dense_{i}"))
        if norm:
            stack.append(BatchNormalization(dtype=dtype, name=f"norm_{i}"))
        if not last:
            stack.append(keras.layers.ReLU(dtype=dtype, name=f"relu_{i}"))
    return keras.Sequential([keras.Input((features,)), *stack], name=name)


def projection_head(features: int, settings: HeadSettings, dtype: str) -> keras.Model:
    """Builds the head g from embeddings [N, features] to projections [N, d] (arXiv 2104.14548, implementation details).

    Its output is not normalised. The paper's head has 2048, 2048 and d = 256 units with batch norm on all layers, and
    ReLU on all but the last. The Keras example's head has 128 and 128 units without batch norm.

    Args:
        features: Length of an embedding.
        settings: Settings of the head. The last number of units is d.
        dtype: Keras dtype policy of the layers.
    """
    return _head("projection", features, settings, norm_last=True, dtype=dtype)


def prediction_head(settings: HeadSettings, width: int, dtype: str) -> keras.Model:
    """Builds the head h from projections [N, d] to predictions [N, d] (arXiv 2104.14548, implementation details).

    Its output is not normalised. The paper's head has 4096 and d units, with batch norm and ReLU on the hidden layer
    only.

    Args:
        settings: Settings of the head.
        width: Length d of a projection.
        dtype: Keras dtype policy of the layers.
    """
    return _head("prediction", width, settings, norm_last=False, dtype=dtype)
