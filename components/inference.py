"""Runs exported encoders in Beam's RunInference."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from apache_beam.ml.inference.base import ModelHandler

from trainer.export import Embeddings


class Inference(ModelHandler[np.ndarray, np.ndarray, Embeddings]):
    """Maps batches of pixels, uint8 [n, h, w, 3], to their embeddings, float32 [n, d].

    Each element is a batch of its own; a `KeyedModelHandler` around this handler keeps what belongs to it. A batch
    without images has embeddings of the shape [0, 0].

    Args:
        directory: The directory of the exported SavedModel; every worker must be able to read it.
    """

    def __init__(self, directory: str):
        # Each element is already a batch.
        super().__init__(max_batch_size=1)
        self._directory = directory

    def load_model(self) -> Embeddings:
        return Embeddings.of_export(self._directory)

    def run_inference(
        self, batch: Sequence[np.ndarray], model: Embeddings, inference_args: dict[str, Any] | None = None
    ) -> Iterable[np.ndarray]:
        return [model(pixels) if len(pixels) else np.zeros([0, 0], np.float32) for pixels in batch]

    def get_num_bytes(self, batch: Sequence[np.ndarray]) -> int:
        return sum(pixels.nbytes for pixels in batch)
