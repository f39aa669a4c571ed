"""Example images and their embeddings, stored with each version to show that all its models still compute the same."""

import base64
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from components.model_registry.contents import SAVED_MODEL
from trainer import export, portable

_EXAMPLES_FILE = "verification.json"

_IMAGES = 4
# Relative to the largest absolute value of the expected embeddings, or to 1 if that is larger: processors round
# differently.
TOLERANCE = 1e-4


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


def deviation(directory: Path, name: str) -> float:
    """Embeds the example images with the file of one format in a release's folder.

    Args:
        directory: The folder.
        name: The name of the format in `portable.FORMATS`.

    Returns:
        The largest difference from the embeddings that are stored, relative to the largest absolute value of an
        embedding, or to 1 if that is larger; infinity if the embeddings have another shape.
    """
    examples = _read_examples(directory)
    return _deviation(_embed_with_format(directory, name, examples), examples)


def differences(directory: Path) -> list[str]:
    """Embeds the example images again with all models in a release's folder, and compares the embeddings.

    Returns:
        One clause for each model whose embeddings differ from those that are stored; empty if all are the same.
    """
    examples = _read_examples(directory)
    found = {str(SAVED_MODEL): export.embed_encoded(str(directory / SAVED_MODEL), examples.images)}
    for name, written in portable.FORMATS.items():
        if (directory / written.file).exists():
            found[written.file] = _embed_with_format(directory, name, examples)
    clauses = []
    for file, actual in found.items():
        if actual.shape != examples.embeddings.shape:
            expected = list(examples.embeddings.shape)
            clauses.append(f"{file} gives embeddings of the shape {list(actual.shape)} instead of {expected}")
        # A comparison with NaN is false.
        elif not (difference := _deviation(actual, examples)) <= TOLERANCE:
            clauses.append(f"{file} gives embeddings that differ by {difference:.2g}")
    return clauses


class _Examples(NamedTuple):
    """The content of the file of examples.

    Attributes:
        images: PNG files.
        embeddings: float32 [images, d].
    """

    images: list[bytes]
    embeddings: np.ndarray


def _read_examples(directory: Path) -> _Examples:
    examples = json.loads((directory / _EXAMPLES_FILE).read_text())
    images = [base64.b64decode(example["image"]) for example in examples]
    return _Examples(images, np.array([example["embedding"] for example in examples], np.float32))


def _embed_with_format(directory: Path, name: str, examples: _Examples) -> np.ndarray:
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in examples.images])
    written = portable.FORMATS[name]
    return written.embed(str(directory / written.file), pixels)


def _deviation(actual: np.ndarray, examples: _Examples) -> float:
    expected = examples.embeddings
    if actual.shape != expected.shape:
        return math.inf
    return float(np.abs(actual - expected).max() / max(1.0, np.abs(expected).max()))
