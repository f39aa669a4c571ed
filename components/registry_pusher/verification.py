"""Whether a version computes what it computed when it was made: example images and their embeddings travel with it."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from components.model_registry.contents import SAVED_MODEL
from trainer import export

_EXAMPLES = "verification.json"

_IMAGES = 4
_LARGEST_DIFFERENCE = 1e-4


def example_images(size: Sequence[int]) -> list[bytes]:
    """Drawn images as PNG files. Pictures of the training data do not travel with a model."""
    drawn = np.random.default_rng(0).integers(0, 256, (_IMAGES, 4, 4, 3), np.uint8)
    encoded = []
    for colours in drawn:
        buffer = io.BytesIO()
        Image.fromarray(colours).resize((size[1], size[0]), Image.Resampling.BICUBIC).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    return encoded


def write_examples(directory: Path, model: str) -> np.ndarray:
    """Embeds the example images with the SavedModel `model`; returns the embeddings, float32 [N, d].

    Images and embeddings are written into the local directory.
    """
    images = example_images(export.describe(model).image_size)
    embeddings = export.embed_encoded(model, images)
    content = [
        {"image": base64.b64encode(image).decode(), "embedding": embedding.tolist()}
        for image, embedding in zip(images, embeddings, strict=True)
    ]
    (directory / _EXAMPLES).write_text(json.dumps(content))
    return embeddings


def differences(directory: Path) -> list[str]:
    """What a released folder computes otherwise than when it was made: a clause, or nothing."""
    content = json.loads((directory / _EXAMPLES).read_text())
    images = [base64.b64decode(example["image"]) for example in content]
    expected = np.array([example["embedding"] for example in content], np.float32)
    found = export.embed_encoded(str(directory / SAVED_MODEL), images)
    if found.shape != expected.shape:
        return [f"{SAVED_MODEL} gives embeddings of the shape {list(found.shape)} instead of {list(expected.shape)}"]
    # Other processors round otherwise: in proportion to the embeddings' size.
    difference = np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
    return (
        [] if difference <= _LARGEST_DIFFERENCE else [f"{SAVED_MODEL} gives embeddings that differ by {difference:.2g}"]
    )
