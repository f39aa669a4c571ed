"""Small vision transformers (arXiv 2010.11929) for views of any size."""

import keras

from trainer.config import EncoderSettings
from trainer.errors import SettingsError
from trainer.layers.positions import Positions

_BLOCKS, _HIDDEN = 12, 4
_EPSILON = 1e-6


def _vit(width: int, heads: int, settings: EncoderSettings, size: tuple[int, int], dtype: str) -> keras.Model:
    patch, layers = settings.patch, keras.layers
    if min(size) < patch:
        raise SettingsError(
            f"trainer.encoder.patch is {patch}, and the images have {size[0]}x{size[1]} pixels: make it smaller."
        )

    def normalised(x, name: str):
        return layers.LayerNormalization(epsilon=_EPSILON, dtype=dtype, name=name)(x)

    def added(x, branch, name: str):
        return layers.Add(dtype=dtype, name=name)([x, branch])

    images = keras.Input((None, None, 3))
    x = layers.Rescaling(2.0, -1.0, dtype=dtype, name="scale")(images)
    x = layers.Conv2D(width, patch, patch, dtype=dtype, name="patches")(x)
    x = Positions(size[0] // patch, size[1] // patch, dtype=dtype, name="positions")(x)
    x = layers.Reshape((-1, width), dtype=dtype, name="tokens")(x)
    for number in range(1, _BLOCKS + 1):
        name = f"block{number}"
        y = normalised(x, f"{name}_attention_norm")
        y = layers.MultiHeadAttention(heads, width // heads, dtype=dtype, name=f"{name}_attention")(y, y)
        x = added(x, y, f"{name}_attention_add")
        y = normalised(x, f"{name}_dense_norm")
        y = layers.Dense(_HIDDEN * width, "gelu", dtype=dtype, name=f"{name}_dense1")(y)
        y = layers.Dense(width, dtype=dtype, name=f"{name}_dense2")(y)
        x = added(x, y, f"{name}_dense_add")
    x = normalised(x, "norm")
    return keras.Model(images, layers.GlobalAveragePooling1D(dtype=dtype, name="embedding")(x), name="encoder")


def build_tiny(settings: EncoderSettings, size: tuple[int, int], dtype: str) -> keras.Model:
    """Builds a ViT-Tiny, whose embeddings are means of patches, of length 192; see `trainer.encoders.Builder`."""
    return _vit(192, 3, settings, size, dtype)


def build_small(settings: EncoderSettings, size: tuple[int, int], dtype: str) -> keras.Model:
    """Builds a ViT-Small, whose embeddings are means of patches, of length 384; see `trainer.encoders.Builder`."""
    return _vit(384, 6, settings, size, dtype)
