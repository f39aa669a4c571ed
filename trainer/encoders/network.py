"""Networks of Keras, from `keras.applications` or from files, as encoders that are trained further.

Their form changes in three ways, none of which changes what the pretrained network computes at inference:

- Batch norm becomes nnclr's, whose statistics are those of the whole batch on any number of devices.
- Layers that act at random in training, such as Dropout, do nothing: the views of an image differ enough, and the
  number of devices must not change a training.
- Images of other sizes than the network's own are taken if its layers allow it.
"""

import keras
import numpy as np

from trainer import keras_networks
from trainer.config import EncoderSettings
from trainer.keras_networks import SAVED_MODEL, Unusable
from trainer.layers.batch_norm import BatchNormalization
from trainer.layers.pixel_scale import UNIT, PixelScale
from trainer.layerwise import in_order

_SETTING = "trainer.encoder"
# The attributes by which layers are known that act at random, and do nothing at inference.
_RANDOM = ("seed_generator", "drop_path_rate")


def build(settings: EncoderSettings, size: tuple[int, int], dtype: str) -> keras.Model:
    """Builds an encoder from a network of Keras, with the weights that training starts from.

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
    with keras_networks.explained(_SETTING, settings.name):
        if settings.is_path:
            scale = settings.preprocessing or UNIT
            model = _from_files(settings.name.rstrip("/"))
        else:
            scale = settings.preprocessing or keras_networks.own_scale(settings.application)
            model, _ = keras_networks.application(settings.application, settings.weights, settings.options, size)
        return _encoder(model, scale, size, dtype)


def copied(encoder: keras.Model, dtype: str) -> keras.Model:
    """Returns an encoder that `build` made in another precision, with the same weights."""
    return _cloned(encoder, keras.Input(encoder.input_shape[1:]), dtype)


def to_json(encoder: keras.Model) -> str:
    """Returns the architecture of an encoder that `build` made, without its weights."""
    return encoder.to_json()


def from_json(text: str) -> keras.Model:
    """Returns the encoder of an architecture, in float32 and with random weights."""
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
    network = _for_any_size(model, size, dtype)
    images = keras.Input(network.input_shape[1:])
    embeddings = network(PixelScale(scale, name="scale")(images))
    if len(embeddings.shape) == 4:
        embeddings = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="embedding")(embeddings)
    if len(embeddings.shape) != 2:
        raise Unusable(
            "it must give one row of features for each image, [images, features], or a map of them, [images, height, "
            f"width, features], and gives {list(embeddings.shape)}"
        )
    return keras.Model(images, embeddings, name="encoder")


def _for_any_size(model: keras.Model, size: tuple[int, int], dtype: str) -> keras.Model:
    """Returns a copy of a network for images of any size or, if its layers need its own size, for that one."""
    try:
        free = _cloned(model, keras.Input((None, None, 3)), dtype)
        free.compute_output_spec(keras.KerasTensor((1, *size, 3)))
        return free
    except (ValueError, TypeError) as error:
        own = tuple(model.input_shape[1:3])
        if own != size:
            raise Unusable(
                f"it takes images of {own[0]} x {own[1]} pixels only, and those of this training have {size[0]} x "
                f"{size[1]}: set data.image_size to the former"
            ) from error
    return _cloned(model, keras.Input((*size, 3)), dtype)


def _cloned(model: keras.Model, images: keras.KerasTensor, dtype: str) -> keras.Model:
    def clone(layer: keras.Operation) -> keras.Operation:
        # An operation such as the sum of two layers' outputs has neither weights nor a precision of its own.
        is_layer = isinstance(layer, keras.Layer)
        return _replaced(layer, dtype) if is_layer else type(layer).from_config(layer.get_config())

    # A Sequential model is a Functional one inside.
    functional = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    copy = keras.models.clone_model(functional, images, clone, _called, recursive=True)
    for theirs, ours in zip(in_order(functional), in_order(copy), strict=True):
        if isinstance(theirs, keras.layers.BatchNormalization):
            ours.set_weights([variable.numpy() for variable in _moments(theirs, ours)])
        elif theirs.weights and not isinstance(theirs, keras.layers.Normalization):
            ours.set_weights(theirs.get_weights())
    return copy


def _called(layer: keras.Layer, *inputs, mask=None, training=None, **arguments):
    """Calls a layer without what the original call fixed: masks, and that it always computes as at inference."""
    return layer(*inputs, **arguments)


def _replaced(layer: keras.Layer, dtype: str) -> keras.Layer:
    """Returns a new layer for a place in the encoder."""
    # The file may have been saved while layers of it were frozen.
    common = {"dtype": dtype, "name": layer.name, "trainable": True}
    if any(getattr(layer, name, None) for name in _RANDOM):
        return keras.layers.Identity(**common)
    if isinstance(layer, keras.layers.Normalization):
        # As constants of the architecture: Keras forgets to use such weights if they are set later.
        mean, variance = np.ravel(layer.mean).tolist(), np.ravel(layer.variance).tolist()
        return keras.layers.Normalization(layer.axis, mean, variance, **common | {"dtype": "float32"})
    if isinstance(layer, keras.layers.BatchNormalization):
        rank = len(layer.input.shape)
        if layer.axis not in (-1, rank - 1) or rank not in (2, 4):
            raise Unusable(f"the batch norm of its layer {layer.name} is not over the channels of images")
        # Moving averages follow in tens of steps, as in all encoders of nnclr, not in hundreds.
        return BatchNormalization(epsilon=layer.epsilon, scale=layer.scale, center=layer.center, **common)
    if isinstance(layer, keras.layers.Rescaling):
        # Pixels from 0 to 255 have more digits than bfloat16.
        common["dtype"] = "float32"
    return type(layer).from_config(layer.get_config() | common)


def _moments(theirs: keras.layers.BatchNormalization, ours: BatchNormalization) -> list[keras.Variable]:
    gamma, beta = theirs.gamma if theirs.scale else ours.gamma, theirs.beta if theirs.center else ours.beta
    return [gamma, beta, theirs.moving_mean, theirs.moving_variance]
