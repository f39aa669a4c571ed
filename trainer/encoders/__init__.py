"""The networks that turn an image into its embedding.

To add an encoder, write a `Builder` such as `convnet.build` in a package of your own and declare it there:

    [project.entry-points."nnclr.encoders"]
    my-encoder = "my_package.my_module:build"

Once the package is installed, `trainer.encoder.name=my-encoder` uses it.
"""

from importlib import metadata
from typing import Protocol

import keras

from trainer.config import ENCODER_ENTRY_POINTS, EncoderSettings
from trainer.encoders import convnet, resnet


class Builder(Protocol):
    """A function that builds an encoder.

    Args:
        settings: Settings of the encoder.
        size: Height and width of the images.
        dtype: Keras dtype policy of the layers. The weights are float32 in any policy.

    Returns:
        A model of float images [N, height, width, 3] in [0, 1] to embeddings [N, d]. Batch norm in the model must be
        `trainer.layers.batch_norm.BatchNormalization`, which computes the same on any number of devices. A release can
        hold a functional or sequential model in further formats (`registry.formats`), but no subclass of `keras.Model`.
    """

    def __call__(self, settings: EncoderSettings, size: tuple[int, int], dtype: str) -> keras.Model: ...


_BUILT_IN: dict[str, Builder] = {
    "convnet": convnet.build,
    "resnet18": resnet.build_resnet18,
    "resnet50": resnet.build_resnet50,
}


def build_encoder(settings: EncoderSettings, size: tuple[int, int], dtype: str = "float32") -> keras.Model:
    """Builds the encoder that the settings name. `keras.utils.set_random_seed` determines its weights.

    Args:
        settings: Settings of the encoder.
        size: Height and width of the images.
        dtype: Keras dtype policy of the layers. The weights are float32 in any policy.
    """
    build = _BUILT_IN.get(settings.name)
    if build is None:
        (declared,) = metadata.entry_points(group=ENCODER_ENTRY_POINTS, name=settings.name)
        build = declared.load()
    return build(settings, size, dtype)
