"""The model that MLflow loads from a registered version: it turns image bytes into embeddings.

This file is stored with the version ("models from code": nothing is pickled). It needs TensorFlow, and nothing of
nnclr.
"""

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

_BATCH_SIZE = 64


class Encoder(PythonModel):
    """An encoder as an MLflow Python model.

    `predict` takes a DataFrame with the column `image_bytes` (JPEG, PNG or BMP files) and returns embeddings, float32
    [N, d].
    """

    def load_context(self, context):
        """Loads the SavedModel."""
        import tensorflow as tf

        self._model = tf.saved_model.load(context.artifacts["saved_model"])

    def predict(self, context, model_input: pd.DataFrame, params=None) -> np.ndarray:
        """Embeds images in batches."""
        import tensorflow as tf

        images = list(model_input["image_bytes"])
        embed = self._model.signatures["serving_default"]
        # Without images, one empty batch yields an array of the right width.
        batches = [images[first : first + _BATCH_SIZE] for first in range(0, len(images) or 1, _BATCH_SIZE)]
        return np.concatenate(
            [embed(image_bytes=tf.constant(batch, tf.string))["embeddings"].numpy() for batch in batches]
        )


set_model(Encoder())
