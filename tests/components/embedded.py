"""Files of embeddings for tests, without an encoder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.embeddings import formats
from components.embeddings.description import Description, Model
from components.embeddings.formats import Rows
from components.embeddings.parts import Part
from trainer import splits

CLASSES = ("cat", "dog")


def write(folder: Path, vectors: np.ndarray, images: Sequence[tuple[str, str, int]], part: int = 3) -> str:
    """Writes `embeddings.parquet` for the pictures below a folder.

    Args:
        folder: The folder.
        vectors: The embeddings, [n, d].
        images: Split, id and label of each image, in the order of the splits.
        part: The most embeddings that are written at a time.

    Returns:
        The path of the file.
    """
    path = f"{folder}/embeddings.parquet"
    description = Description(
        nnclr="0.1.0",
        model=Model(name="encoder", sha256="c0ffee" * 10),
        image_size=(32, 32),
        source=str(folder),
        fingerprint="f00d",
        settings={"image_size": 32, "stored_size": None},
        class_names=CLASSES,
        count=len(vectors),
        length=vectors.shape[1],
    )

    def rows():
        for split in splits.SPLITS:
            chosen = [row for row, image in enumerate(images) if image[0] == split]
            for first in range(0, len(chosen), part):
                some = chosen[first : first + part]
                ids = [images[row][1] for row in some]
                labels = np.array([images[row][2] for row in some])
                some_vectors = np.asarray(vectors[some], np.float32)
                yield Rows(Part(split, ids, labels, some_vectors, []), [f"{folder}/{name}" for name in ids], CLASSES)

    formats.write(path, f"{folder}/unfinished", description, rows())
    return path
