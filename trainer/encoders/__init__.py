"""The networks that turn an image into its embedding.

To add an encoder, write a `Builder` such as `convnet.build` in a package of your own and declare it there:

    [project.entry-points."nnclr.encoders"]
    my-encoder = "my_package.my_module:build"

Once the package is installed, `trainer.encoder.name=my-encoder` uses it. The built-in encoders are declared in the same
way, in `trainer.built_in_encoders`.
"""

from importlib import metadata
from typing import Protocol

import keras

from trainer import built_in_encoders, keras_networks
from trainer.config import EncoderSettings
from trainer.encoders import network


class Builder(Protocol):
    """A function that builds an encoder."""

    def __call__(self, settings: EncoderSettings, size: tuple[int, int], dtype: str) -> keras.Model:
        """Builds the encoder.

        Args:
            settings: Settings of the encoder.
            size: Height and width of the images.
            dtype: Keras dtype policy of the layers. The weights are float32 in any policy.

        Returns:
            A model of float images [N, height, width, 3] in [0, 1] to embeddings [N, d]. Batch norm in the model must
            be `trainer.layers.batch_norm.BatchNormalization`, which computes the same on any number of devices. A
            release can hold a functional or sequential model in further formats (`registry.formats`), but no subclass
            of `keras.Model`.
        """
        ...


def build_encoder(settings: EncoderSettings, size: tuple[int, int], dtype: str = "float32") -> keras.Model:
    """Builds the encoder that the settings name, with the weights that they name.

    `keras.utils.set_random_seed` determines random weights.

    Args:
        settings: Settings of the encoder.
        size: Height and width of the images.
        dtype: Keras dtype policy of the layers. The weights are float32 in any policy.

    Raises:
        SettingsError: If the encoder cannot be built for images of this size, or if the weights do not fit.
    """
    if settings.is_of_keras:
        return network.build(settings, size, dtype)
    encoder = _builder(settings.name)(settings, size, dtype)
    if settings.weights is not None:
        with keras_networks.explained("trainer.encoder.weights", settings.name):
            keras_networks.load_weights(encoder, settings.weights)
    return encoder


def start_fingerprint(settings: EncoderSettings) -> str:
    """Returns a hash of the files whose weights training starts from; it is empty if there are none.

    Raises:
        SettingsError: If a file cannot be read.
    """
    if not settings.paths:
        return ""
    with keras_networks.explained("trainer.encoder", settings.name):
        return keras_networks.fingerprint(settings.paths)


def require_buildable(settings: EncoderSettings, size: tuple[int, int]) -> None:
    """Builds an encoder that needs files or a download once, so that a mistake is told before a long ingest.

    Raises:
        SettingsError: If it cannot be built.
    """
    if settings.is_of_keras or settings.weights:
        build_encoder(settings, size)


def _builder(name: str) -> Builder:
    known = built_in_encoders.BUILT_IN.get(name)
    if known is not None:
        return known.entry_point(name).load()
    (declared,) = metadata.entry_points(group=built_in_encoders.GROUP, name=name)
    return declared.load()
