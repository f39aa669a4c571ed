"""Networks of Keras, from `keras.applications` or from files, as encoders that are trained further."""

import keras

from trainer import keras_networks
from trainer.config import EncoderSettings
from trainer.encoders import cloning
from trainer.keras_networks import SAVED_MODEL, Unusable
from trainer.layers.pixel_scale import UNIT, PixelScale


def build(settings: EncoderSettings, size: tuple[int, int], dtype: str) -> keras.Model:
    """Builds an encoder from a network of Keras, with the weights that training starts from; see `cloning`.

    It takes images of any size if the layers of the network allow it.

    Args:
        settings: Settings of an encoder that is a network of Keras.
        size: Height and width of the images.
        dtype: Keras dtype policy of the layers.

    Returns:
        See `trainer.encoders.Builder`.

    Raises:
        SettingsError: If there is no such network or file, if the weights do not fit, or if the network cannot be
            trained on images of this size.
    """
    with keras_networks.explained("trainer.encoder", settings.name):
        if settings.is_path:
            return _encoder(_from_files(settings.name.rstrip("/")), settings.preprocessing or UNIT, size, dtype)
        name = settings.application
        model, _ = keras_networks.application(name, settings.weights, settings.options, size)
        return _encoder(model, settings.preprocessing or keras_networks.own_scale(name), size, dtype)


def copied(encoder: keras.Model, dtype: str) -> keras.Model:
    """Returns an encoder that `build` made in another precision, with the same weights."""
    images = keras.Input(encoder.input_shape[1:])
    return keras.Model(images, cloning.applied(encoder, images, dtype), name=encoder.name)


def to_json(encoder: keras.Model) -> str:
    """Returns the architecture of an encoder that `build` made, without its weights."""
    return encoder.to_json()


def from_json(text: str) -> keras.Model:
    """Returns the encoder of an architecture, with random weights."""
    return keras.models.model_from_json(text)


def _from_files(path: str) -> keras.Model:
    if keras_networks.is_saved_model(path):
        raise Unusable(
            f"a folder with {SAVED_MODEL} holds a compiled program, which cannot be trained further: name a .keras "
            "file or a folder with a Keras model, or, for an encoder of nnclr, set trainer.warm_start"
        )
    return keras_networks.from_files(path)


def _encoder(model: keras.Model, scale: str, size: tuple[int, int], dtype: str) -> keras.Model:
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    if len(model.outputs) != 1:
        raise Unusable(f"it must have one output, and has {len(model.outputs)}")
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] != 3:
        raise Unusable(f"it must take images, [number, height, width, 3], and takes {', '.join(map(str, shapes))}")

    def encoder_for(height: int | None, width: int | None) -> keras.Model:
        images = keras.Input((height, width, 3))
        features = cloning.applied(model, PixelScale(scale, name="pixel_scale")(images), dtype)
        if len(features.shape) == 4:
            features = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="embedding")(features)
        if len(features.shape) != 2:
            raise Unusable(
                "it must give one row of features for each image, [images, features], or a map of them, [images, "
                f"height, width, features], and gives {list(features.shape)}"
            )
        if features.shape[1] is None:
            raise ValueError("The number of features depends on the size of the images.")
        return keras.Model(images, features, name="encoder")

    try:
        encoder = encoder_for(None, None)
        encoder.compute_output_spec(keras.KerasTensor((1, *size, 3)))
        return encoder
    except (ValueError, TypeError) as error:
        own = shapes[0][1:3]
        if own != size:
            raise Unusable(
                f"it takes images of {own[0]} x {own[1]} pixels only, and those of this training have {size[0]} x "
                f"{size[1]}: set data.image_size to the former"
            ) from error
    return encoder_for(*size)
