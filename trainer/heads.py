"""The heads between the encoder and the loss."""

import keras


def projection_head(features: int, units: list[int], dtype: str) -> keras.Model:
    """Dense layers with ReLU between them and none after the last.

    "f and g: two augmented views go through an encoder and a projection head" (arXiv 2104.14548, section 3); the sizes
    default to the Keras example's two layers of 128.

    Args:
        features: length of the embedding.
        units: of each layer; the last is the length of a projection.
        dtype: Keras dtype policy of the layers.

    Returns:
        A model from [N, features] to [N, units[-1]], not normalised.
    """
    hidden = [
        keras.layers.Dense(n, activation="relu", dtype=dtype, name=f"hidden_{i}") for i, n in enumerate(units[:-1], 1)
    ]
    last = keras.layers.Dense(units[-1], dtype=dtype, name="projection")
    return keras.Sequential([keras.Input((features,)), *hidden, last], name="projection_head")
