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
# The first bytes of JPEG, PNG, GIF and BMP files.
_DECODED_BY_TENSORFLOW = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM")


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
    """Converts a picture in a format that TensorFlow cannot decode, such as TIFF or AVIF, to PNG."""
    if content.startswith(_DECODED_BY_TENSORFLOW) or content[8:12] == b"WEBP":
        return content
    from PIL import Image

    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    converted = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        # Pillow would clip 16 bits instead of scaling them.
        eight_bits = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if image.mode.startswith("I") else image
        eight_bits.convert("RGB").save(converted, "PNG")
    return converted.getvalue()


set_model(Encoder())
