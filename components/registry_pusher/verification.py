"""Example images and their embeddings, stored with each version to show that it still computes the same."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from components.model_registry.contents import SAVED_MODEL
from trainer import export

_EXAMPLES_FILE = "verification.json"

_IMAGES = 4
# Relative to the largest absolute value of the expected embeddings, or to 1 if that is larger: processors round
# differently.
_TOLERANCE = 1e-4


def example_images(size: Sequence[int]) -> list[bytes]:
    """Draws random images, so that no image of the training data is stored with a model.

    Args:
        size: The height and the width in pixels.

    Returns:
        PNG files, the same ones in every call.
    """
    small = np.random.default_rng(0).integers(0, 256, (_IMAGES, 4, 4, 3), np.uint8)
    files = []
    for pixels in small:
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


def write_examples(directory: Path, model: str) -> None:
    """Embeds the example images, and writes images and embeddings into a file.

    Args:
        directory: The local folder for the file.
        model: The SavedModel that embeds the images.
    """
    images = example_images(export.describe(model).image_size)
    embeddings = export.embed_encoded(model, images)
    examples = [
        {"image": base64.b64encode(image).decode(), "embedding": embedding.tolist()}
        for image, embedding in zip(images, embeddings, strict=True)
    ]
    (directory / _EXAMPLES_FILE).write_text(json.dumps(examples))


def differences(directory: Path) -> list[str]:
    """Embeds the example images again with the SavedModel in a release's folder, and compares the embeddings.

    Returns:
        One clause if the embeddings differ from those that are stored; empty if they are the same.
    """
    examples = json.loads((directory / _EXAMPLES_FILE).read_text())
    images = [base64.b64decode(example["image"]) for example in examples]
    expected = np.array([example["embedding"] for example in examples], np.float32)
    actual = export.embed_encoded(str(directory / SAVED_MODEL), images)
    if actual.shape != expected.shape:
        return [f"{SAVED_MODEL} gives embeddings of the shape {list(actual.shape)} instead of {list(expected.shape)}"]
    difference = np.abs(actual - expected).max() / max(1.0, np.abs(expected).max())
    return [] if difference <= _TOLERANCE else [f"{SAVED_MODEL} gives embeddings that differ by {difference:.2g}"]
