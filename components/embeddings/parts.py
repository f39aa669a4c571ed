"""The parts of embeddings: one file for each block of images, which an interrupted command need not compute again."""

import io
import json
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components import artifact_files
from components.image_example_gen.rejections import Rejected
from trainer import storage

if TYPE_CHECKING:
    from components.image_example_gen.transforms import Shard

_ENDING = ".npz"


@dataclass(frozen=True)
class Part:
    """The embeddings of consecutive images of one split.

    Attributes:
        split: The split of the images.
        ids: The ids of the images, [n].
        labels: The classes of the images, counted from 0, or `splits.NO_LABEL`: int64 [n].
        vectors: The embeddings, float32 [n, d]; [0, 0] if there are none.
        rejected: The pictures that have no embedding.
    """

    split: str
    ids: list[str]
    labels: np.ndarray
    vectors: np.ndarray
    rejected: list[Rejected]


def name_of(shard: "Shard") -> str:
    """Returns the name of the file with the embeddings of a block of images."""
    return f"{shard.split}-{shard.number:05d}-of-{shard.total:05d}{_ENDING}"


def write(path: str, part: Part) -> None:
    """Writes a part; no reader sees half of it.

    Args:
        path: Local path or URI of the file.
        part: The embeddings.
    """
    texts = json.dumps({"split": part.split, "ids": part.ids, "rejected": [each._asdict() for each in part.rejected]})
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, labels=part.labels, vectors=part.vectors, texts=np.array(texts))
    artifact_files.write(path, buffer.getvalue())


def read(path: str) -> Part:
    """Reads a part that `write` wrote.

    Raises:
        DamagedFile: If the file holds something else.
    """
    labels, vectors, content = artifact_files.read_arrays(path, "labels", "vectors", "texts")
    try:
        texts = json.loads(str(content))
        rejected = [Rejected(**each) for each in texts["rejected"]]
        return Part(texts["split"], texts["ids"], labels, vectors, rejected)
    except (ValueError, LookupError, TypeError) as error:
        raise artifact_files.damaged(path) from error


def finished(directory: str) -> frozenset[str]:
    """Returns the names of the parts in a directory, local or in a bucket, which need not exist."""
    files, target = storage.located(directory)
    names = {posixpath.basename(path) for path in files.find(target)} if files.exists(target) else set()
    # Hidden files are incomplete.
    return frozenset(name for name in names if name.endswith(_ENDING) and not name.startswith("."))
