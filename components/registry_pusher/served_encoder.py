"""The model that MLflow loads from a registered version: it turns image bytes into embeddings.

This file is stored with the version ("models from code": nothing is pickled). It needs TensorFlow, and nothing of
nnclr.
"""

import contextlib
import io

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

_BATCH_SIZE = 64
# The first bytes of JPEG, PNG and GIF files, of which TensorFlow decodes all that Pillow does.
_DECODED_BY_TENSORFLOW = (b"\xff\xd8", b"\x89PNG", b"GIF8")


class Encoder(PythonModel):
    """An encoder as an MLflow Python model.

    `predict` takes a DataFrame with the column `image_bytes` (the contents of picture files) and returns embeddings,
    float32 [N, d].
    """

    def load_context(self, context):
        """Loads the SavedModel."""
        import tensorflow as tf

        self._model = tf.saved_model.load(context.artifacts["saved_model"])

    def predict(self, context, model_input: pd.DataFrame, params=None) -> np.ndarray:
        """Embeds images in batches."""
        import tensorflow as tf

        images = [_decodable(image) for image in model_input["image_bytes"]]
        embed = self._model.signatures["serving_default"]
        # Without images, one empty batch yields an array of the right width.
        batches = [images[first : first + _BATCH_SIZE] for first in range(0, len(images) or 1, _BATCH_SIZE)]
        return np.concatenate(
            [embed(image_bytes=tf.constant(batch, tf.string))["embeddings"].numpy() for batch in batches]
        )


def _decodable(content: bytes) -> bytes:
    """Converts a picture in a format that TensorFlow cannot decode in every form, such as TIFF or WebP, to PNG.

    Raises:
        ValueError: If the content is no picture, or one that nnclr does not train on either.
    """
    if content.startswith(_DECODED_BY_TENSORFLOW):
        return content
    from PIL import Image

    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    converted = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        eight_bits = _as_8_bits(np.asarray(image)) if image.mode.startswith(("I", "F")) else image.convert("RGB")
        eight_bits.save(converted, "PNG")
    return converted.getvalue()


def _as_8_bits(grey: np.ndarray):
    """Scales unsigned 16-bit values to 8 bits, which Pillow would clip instead."""
    from PIL import Image

    if grey.dtype.kind == "f" or grey.min() < 0 or grey.max() > 0xFFFF:
        raise ValueError("image_bytes holds a picture whose pixels have more than 16 bits: convert it to 8 or 16 bits")
    return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")


set_model(Encoder())
