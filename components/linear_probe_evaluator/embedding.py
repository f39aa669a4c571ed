"""Embeds images in Beam, which distributes large data sets over machines, and reads the results back.

The elements between the transforms are chunks: consecutive images of one TFRecord file. The results of each chunk are
files of their own, so that nothing is shuffled, and repeating a chunk after a failure writes the same files again.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference

from components.image_example_gen import duplicates
from components.inference import Inference
from trainer import data, examples, splits
from trainer.progress import Reporter

#: Bytes of a chunk: those of its records, and of its images in every size that a model takes. A chunk is therefore as
#: large for images of 512 pixels as for images of 32, and memory does not grow with their size.
CHUNK_BYTES = 16 * 2**20

_MOST_FOLDS = 16
_ROWS = "rows"


Size = tuple[int, int]


class Encoder(NamedTuple):
    """An exported encoder.

    Attributes:
        directory: The directory of the SavedModel; every worker must be able to read it.
        size: Height and width of the images that the encoder takes, in pixels.
    """

    directory: str
    size: Size


class Position(NamedTuple):
    """Where a chunk lies in the data set.

    Attributes:
        split: The split of the chunk.
        shard: The number of its TFRecord file within the split, counted from 0.
        first: The number of the chunk's first record within the file, counted from 0.
    """

    split: str
    shard: int
    first: int

    def file_in(self, directory: str, content: str) -> str:
        """Returns the path of the chunk's results in a directory.

        Args:
            directory: The directory of all results.
            content: What the file contains: the name of a model for its embeddings, or `rows`.
        """
        return f"{directory}/{content}/{self.split}-{self.shard:05d}-{self.first:09d}.npz"


class Chunk(NamedTuple):
    """Consecutive images of one TFRecord file.

    Attributes:
        position: Where the chunk lies in the data set.
        pixels: The images by size, each fitted from its stored record: uint8 [n, height, width, 3].
        rows: Labels, folds, ids and hashes: arrays with n rows, as in `Rows`.
    """

    position: Position
    pixels: dict[Size, np.ndarray]
    rows: dict[str, np.ndarray]


class Features(NamedTuple):
    """The embeddings of a split, float32 [N, d], and the number of rows that were not finite and are now zeros."""

    values: np.ndarray
    not_finite: int


@dataclass(frozen=True)
class Rows:
    """Labels, folds, hashes and ids of the images of a split, in the order of files and records.

    Attributes:
        labels: The class of each image, int64 [N].
        folds: Whether each image belongs to each of STL-10's folds, bool [N, 16].
        hashes: The hashes of the pixels, uint64 [N], by kind of hash (see `duplicates`).
        records: The number of the file and the number of the record within the file, int64 [N, 2].
        ids: The ids of the images, strings [N].
    """

    labels: np.ndarray
    folds: np.ndarray
    hashes: dict[str, np.ndarray]
    records: np.ndarray
    ids: np.ndarray


class EmbedImages(beam.PTransform):
    """Embeds the splits `train` and `test` with several models, and hashes the images of all splits.

    Input: the pipeline. Output: the path of each file written below `directory`. `read_rows` and `read_features` read
    these files.

    Args:
        files: The paths of the TFRecord files by split.
        size: Height and width of the images that are hashed, in pixels.
        models: The exported encoders by name. Each is given the images in its own size.
        directory: The directory for the results, local or `gs://`; every worker must be able to write to it.
        images: The number of images in all splits, for the progress display.
    """

    def __init__(
        self, files: dict[str, list[str]], size: Size, models: dict[str, Encoder], directory: str, images: int
    ):
        super().__init__()
        self._shards = [(split, i, path) for split, paths in files.items() for i, path in enumerate(paths)]
        self._read = _ReadChunks(size, {model.size for model in models.values()}, images)
        self._models, self._directory = models, directory

    def expand(self, pipeline):
        chunks = pipeline | "ListShards" >> beam.Create(self._shards) | beam.Reshuffle() | beam.ParDo(self._read)
        labelled = chunks | "KeepLabelled" >> beam.Filter(lambda chunk: chunk.position.split != splits.UNLABELLED)
        written = [
            labelled
            | f"Take size of {name}" >> beam.Map(_in_size, model.size)
            | f"Embed {name}" >> RunInference(KeyedModelHandler(Inference(model.directory)))
            | f"Name {name}" >> beam.MapTuple(lambda position, features: (position, {"features": features}))
            | f"Write {name}" >> beam.Map(_write, directory=self._directory, content=name)
            for name, model in self._models.items()
        ]
        rows = chunks | "Describe" >> beam.Map(lambda chunk: (chunk.position, chunk.rows))
        written.append(rows | "WriteRows" >> beam.Map(_write, directory=self._directory, content=_ROWS))
        return written | beam.Flatten()


@beam.typehints.with_output_types(Chunk)
class _ReadChunks(beam.DoFn):
    def __init__(self, size: Size, wanted: set[Size], images: int):
        self._size, self._wanted, self._images = size, wanted | {size}, images

    def setup(self):
        self._reporter = Reporter("Embedding", self._images)
        # Images without labels are hashed, but not embedded.
        self._parse = {split: _parser(self._wanted) for split in (splits.TRAIN, splits.TEST)}
        self._parse[splits.UNLABELLED] = _parser({self._size})

    def process(self, shard: tuple[str, int, str]) -> Iterator[Chunk]:
        split, number, path = shard
        first = 0
        for records in _in_chunks(path, sum(3 * height * width for height, width in self._wanted)):
            parsed, images = self._parse[split](tf.constant(records))
            pixels = {size: batch.numpy() for size, batch in images.items()}
            folds = np.zeros([len(records), _MOST_FOLDS], bool)
            fold = parsed[examples.FOLD]
            folds[fold.indices.numpy()[:, 0], fold.values.numpy()] = True
            hashes = duplicates.hashes(pixels[self._size])
            ids = np.array([name.decode() for name in parsed[examples.ID].numpy()])
            rows = {"labels": parsed[examples.LABEL].numpy(), "folds": folds, "ids": ids, **hashes}
            yield Chunk(Position(split, number, first), pixels, rows)
            first += len(records)
            self._reporter.advance(len(records))


def _parser(sizes: set[Size]) -> Callable[[tf.Tensor], tuple[dict[str, tf.Tensor], dict[Size, tf.Tensor]]]:
    """Returns a function that parses serialized examples to labels, folds and ids, and to images in each size."""

    # As a graph, because images of other sizes are decoded one by one, which takes long step by step.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def parse(records: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[Size, tf.Tensor]]:
        parsed = examples.parse(records, *examples.PIXEL_FEATURES, examples.LABEL, examples.FOLD, examples.ID)
        return parsed, {size: examples.fitted(parsed, size) for size in sizes}

    return parse


def _in_chunks(path: str, pixels: int) -> Iterator[list[bytes]]:
    """Yields the records of a file in lists of `CHUNK_BYTES`; a record with `pixels` bytes of images is never cut.

    Raises:
        DataError: If the file is damaged.
    """
    chunk: list[bytes] = []
    taken = 0
    with data.problems_named([path]):
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            size = len(record) + pixels
            if chunk and taken + size > CHUNK_BYTES:
                yield chunk
                chunk, taken = [], 0
            chunk.append(record)
            taken += size
    if chunk:
        yield chunk


def _in_size(chunk: Chunk, size: Size) -> tuple[Position, np.ndarray]:
    return chunk.position, chunk.pixels[size]


def _write(result: tuple[Position, dict[str, np.ndarray]], directory: str, content: str) -> str:
    position, arrays = result
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    path = position.file_in(directory, content)
    parent = path.rpartition("/")[0]
    if not FileSystems.exists(parent):
        # Another worker may create the folder first.
        with contextlib.suppress(OSError):
            FileSystems.mkdirs(parent)
    with FileSystems.create(path) as file:
        file.write(buffer.getvalue())
    return path


def read_rows(directory: str, split: str) -> Rows:
    """Reads the labels, folds and hashes that `EmbedImages` wrote for a split.

    Args:
        directory: The directory that `EmbedImages` wrote to.
        split: The split to read.
    """
    loaded = [(path, _load(path)) for path in _files(directory, _ROWS, split)]
    parts = [part for _, part in loaded]
    records = [
        np.column_stack([np.full(len(part["labels"]), shard), first + np.arange(len(part["labels"]))])
        for (path, part) in loaded
        for shard, first in [map(int, Path(path).stem.split("-")[-2:])]
    ]
    return Rows(
        labels=np.concatenate([np.zeros([0], np.int64), *(part["labels"] for part in parts)]),
        folds=np.concatenate([np.zeros([0, _MOST_FOLDS], bool), *(part["folds"] for part in parts)]),
        hashes={
            kind: np.concatenate([np.zeros([0], np.uint64), *(part[kind] for part in parts)])
            for kind in duplicates.KINDS
        },
        records=np.concatenate([np.zeros([0, 2], np.int64), *records]),
        ids=np.concatenate([np.zeros([0], str), *(part["ids"] for part in parts)]),
    )


def read_features(directory: str, model: str, split: str, map_file: Path) -> Features:
    """Reads the embeddings that `EmbedImages` wrote for a split, one chunk at a time.

    Args:
        directory: The directory that `EmbedImages` wrote to.
        model: The name of the encoder.
        split: The split to read.
        map_file: The local file to collect the embeddings in.

    Returns:
        The embeddings as a memory map of `map_file`.
    """
    count, dimensions, not_finite = 0, [], 0
    with open(map_file, "wb") as file:
        for path in _files(directory, model, split):
            part = np.ascontiguousarray(_load(path)["features"], np.float32)
            bad = ~np.isfinite(part).all(1)
            part[bad] = 0
            not_finite += int(bad.sum())
            file.write(part.tobytes())
            count, dimensions = count + len(part), [part.shape[1]]
    return Features(np.memmap(map_file, np.float32, "r", shape=(count, *dimensions)), not_finite)


def _files(directory: str, content: str, split: str) -> list[str]:
    (match,) = FileSystems.match([f"{directory}/{content}/{split}-*.npz"])
    return sorted(metadata.path for metadata in match.metadata_list)


def _load(path: str) -> dict[str, np.ndarray]:
    with FileSystems.open(path) as file, np.load(io.BytesIO(file.read()), allow_pickle=False) as arrays:
        return dict(arrays)


def images_at(files: list[str], records: np.ndarray, size: Size) -> np.ndarray:
    """Reads single images from TFRecord files.

    Args:
        files: The paths of a split's TFRecord files.
        records: The numbers of the file and of the record for each image, int64 [n, 2], in any order; the same record
            may occur several times.
        size: Height and width of the images, in pixels.

    Returns:
        The images, uint8 [n, height, width, 3].
    """
    images = np.empty([len(records), *size, 3], np.uint8)
    for shard in np.unique(records[:, 0]):
        here = records[:, 0] == shard
        numbers, order = np.unique(records[here, 1], return_inverse=True)
        images[here] = _read(files[shard], numbers, size)[order]
    return images


def _read(file: str, numbers: np.ndarray, size: Size) -> np.ndarray:
    """Reads the records with these ascending numbers in one pass over the file, which ends at the last of them."""
    numbered = tf.data.TFRecordDataset(file).enumerate()
    wanted = numbered.filter(lambda number, _: tf.reduce_any(number == numbers)).map(lambda _, record: record)
    with data.problems_named([file]):
        batch = next(iter(wanted.take(len(numbers)).batch(len(numbers))))
    return examples.fitted(examples.parse(batch, *examples.PIXEL_FEATURES), size).numpy()
