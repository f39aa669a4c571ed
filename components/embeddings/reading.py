"""Reads a Parquet file of embeddings in chunks, so that memory does not grow with the number of images."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.embeddings import formats
from components.embeddings.description import Description
from trainer import storage
from trainer.errors import SettingsError

#: What is known of each image beside its embedding.
COLUMNS = ("id", "path", "split", "label", "class")

# Rows of a chunk. 8,192 embeddings of length 2,048 take 64 MiB.
_CHUNK_ROWS = 8_192


class Embeddings:
    """An open file of embeddings.

    Attributes:
        path: Its path or URI.
        description: Which encoder and images the embeddings are of, how many there are, and how long they are.
    """

    def __init__(self, path: str, description: Description, file: pq.ParquetFile):
        self.path = path
        self.description = description
        self._file = file

    def images(self) -> pa.Table:
        """Reads what is known of each image: the columns `COLUMNS`, in the order of the file.

        `path` is null for an image that is no file of its own; `label` and `class` are null if they are unknown.
        """
        with _readable(self.path):
            return self._file.read(list(COLUMNS)).combine_chunks()

    def vector(self, row: int) -> np.ndarray:
        """Reads one embedding, float32 [length]."""
        with _readable(self.path):
            metadata = self._file.metadata
            ends = np.cumsum([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])
            group = int(np.searchsorted(ends, row, side="right"))
            column = self._file.read_row_group(group, ["embedding"]).column(0)
            return _finite(np.array(column[row - int(ends[group])].as_py(), np.float32))

    def vectors(self, rows: int = _CHUNK_ROWS, *, unit: bool = False) -> Iterator[np.ndarray]:
        """Yields the embeddings in the order of the file.

        Args:
            rows: The most embeddings of a chunk.
            unit: Whether to divide each embedding by its length, so that products of two are cosine similarities. An
                embedding of zeros stays as it is.

        Yields:
            Chunks, float32 [n, length].
        """
        with _readable(self.path):
            for batch in self._file.iter_batches(rows, columns=["embedding"]):
                vectors = batch.column(0).flatten().to_numpy(zero_copy_only=False)
                yield _scaled(_finite(vectors.reshape(-1, self.description.length)), unit)


@contextmanager
def opened(path: str) -> Iterator[Embeddings]:
    """Opens a Parquet file that `nnclr embed` wrote. One in a bucket is downloaded once into a temporary file.

    Args:
        path: Local path or URI.

    Raises:
        SettingsError: If there is no such file, if `nnclr embed` did not write it, or if its storage fails.
    """
    if not path.endswith(formats.PARQUET):
        raise SettingsError(
            f"{path} is not a Parquet file of embeddings: write one with nnclr embed SOURCE -o NAME{formats.PARQUET}."
        )
    files, target = storage.located(path)
    with ExitStack() as stack:
        local = target
        with storage.explained(path, SettingsError):
            if not files.isfile(target):
                raise SettingsError(f"{path} does not exist: write it with nnclr embed SOURCE -o {path}.")
            if storage.in_bucket(path):
                local = stack.enter_context(tempfile.NamedTemporaryFile(prefix="nnclr-embeddings-")).name
                files.get_file(target, local)
        with _readable(path):
            file = stack.enter_context(pq.ParquetFile(local))
            description = formats.parquet_description(file.schema_arrow)
            if description.count != file.metadata.num_rows or not {*COLUMNS, "embedding"} <= {*file.schema_arrow.names}:
                raise ValueError
        yield Embeddings(path, description, file)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        with storage.explained(path, SettingsError):
            yield
    except formats.UNREADABLE as error:
        raise SettingsError(
            f"{path} is not a whole file of embeddings that nnclr embed wrote: name another file, or write this one "
            "again."
        ) from error


def _finite(vectors: np.ndarray) -> np.ndarray:
    # nnclr embed leaves out images whose embeddings are not finite.
    if not np.isfinite(vectors).all():
        raise ValueError
    return vectors


def _scaled(vectors: np.ndarray, unit: bool) -> np.ndarray:
    if not unit:
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)
