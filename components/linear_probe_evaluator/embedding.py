"""Embeds images in Beam, so that large sets spread over machines, and reads the results back.

The element that travels is a chunk: consecutive images of one TFRecord file. Its results are files of its own, so that
nothing is shuffled, and doing a chunk again after a failure writes the same files again.
"""

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import ModelHandler, RunInference

from components.linear_probe_evaluator import duplicates
from trainer import examples
from trainer.export import Embeddings
from trainer.progress import Reporter

_CHUNK = 256
_MOST_FOLDS = 16
_ROWS = "rows"


class Place(NamedTuple):
    """Where a chunk comes from: its split, the number of its file in the split, its own number in the file."""

    split: str
    shard: int
    number: int

    def file_in(self, directory: str, content: str) -> str:
        """Path of the results of one kind."""
        return f"{directory}/{content}/{self.split}-{self.shard:05d}-{self.number:05d}.npz"


class Chunk(NamedTuple):
    """Some images, uint8 [n, height, width, 3], and what is known of each."""

    place: Place
    pixels: np.ndarray
    rows: dict[str, np.ndarray]


@dataclass(frozen=True)
class Rows:
    """What is known of the images of a split, in the order of files and records.

    Attributes:
        labels: classes, int64 [N].
        folds: bool [N, 16], STL-10's folds that an image belongs to.
        hashes: of the pixels, by kind of hash, uint64 [N] each (see `duplicates`).
        places: file number and record number of each, int64 [N, 2].
    """

    labels: np.ndarray
    folds: np.ndarray
    hashes: dict[str, np.ndarray]
    places: np.ndarray


class EmbedImages(beam.PTransform):
    """Embeds the splits `train` and `test` with several models, and hashes the images of all splits.

    Input: the pipeline. Output: the path of each file written below `directory`; read them with `read_rows` and
    `read_features`.

    Args:
        files: TFRecords by split.
        size: height and width of the images.
        models: exported encoders by name, where every worker can read them.
        directory: receives the results; local or `gs://`, where every worker can write.
        images: how many there are, for the progress.
    """

    def __init__(
        self, files: dict[str, list[str]], size: tuple[int, int], models: dict[str, str], directory: str, images: int
    ):
        super().__init__()
        self._shards = [(split, i, path) for split, paths in files.items() for i, path in enumerate(paths)]
        self._read = _ReadChunks(size, images)
        self._models, self._directory = models, directory

    def expand(self, pipeline):
        chunks = pipeline | "ListShards" >> beam.Create(self._shards) | beam.Reshuffle() | beam.ParDo(self._read)
        labelled = chunks | "KeepLabelled" >> beam.Filter(lambda chunk: chunk.place.split != examples.UNLABELLED)
        written = [
            labelled
            | f"Embed {name}" >> RunInference(_Encoder(path))
            | f"Write {name}" >> beam.Map(_write, directory=self._directory, content=name)
            for name, path in self._models.items()
        ]
        described = chunks | "Describe" >> beam.Map(lambda chunk: (chunk.place, chunk.rows))
        written.append(described | "WriteRows" >> beam.Map(_write, directory=self._directory, content=_ROWS))
        return written | beam.Flatten()


@beam.typehints.with_output_types(Chunk)
class _ReadChunks(beam.DoFn):
    def __init__(self, size: tuple[int, int], images: int):
        self._size, self._images = size, images

    def setup(self):
        self._reporter = Reporter("Embedding", self._images)

    def process(self, shard: tuple[str, int, str]) -> Iterator[Chunk]:
        split, number, path = shard
        records = tf.data.TFRecordDataset(path).batch(_CHUNK).prefetch(1)
        for index, batch in enumerate(records):
            parsed = examples.parse(batch, examples.IMAGE, examples.LABEL, examples.FOLD)
            pixels = examples.pixels(parsed[examples.IMAGE], self._size).numpy()
            folds = np.zeros([len(pixels), _MOST_FOLDS], bool)
            fold = parsed[examples.FOLD]
            folds[fold.indices.numpy()[:, 0], fold.values.numpy()] = True
            rows = {"labels": parsed[examples.LABEL].numpy(), "folds": folds, **duplicates.hashes(pixels)}
            yield Chunk(Place(split, number, index), pixels, rows)
            self._reporter.advance(len(pixels))


class _Encoder(ModelHandler[Chunk, tuple[Place, dict[str, np.ndarray]], Embeddings]):
    """An exported encoder for RunInference."""

    def __init__(self, directory: str):
        # A chunk is a batch already.
        super().__init__(max_batch_size=1)
        self._directory = directory

    def load_model(self) -> Embeddings:
        return Embeddings.of_export(self._directory)

    def run_inference(
        self, batch: Sequence[Chunk], model: Embeddings, inference_args: dict[str, Any] | None = None
    ) -> Iterable[tuple[Place, dict[str, np.ndarray]]]:
        return [(chunk.place, {"features": model(chunk.pixels)}) for chunk in batch]

    def get_num_bytes(self, batch: Sequence[Chunk]) -> int:
        return sum(chunk.pixels.nbytes for chunk in batch)


def _write(result: tuple[Place, dict[str, np.ndarray]], directory: str, content: str) -> str:
    place, arrays = result
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    path = place.file_in(directory, content)
    parent = path.rpartition("/")[0]
    if not FileSystems.exists(parent):
        # Another worker may be faster.
        with contextlib.suppress(OSError):
            FileSystems.mkdirs(parent)
    with FileSystems.create(path) as file:
        file.write(buffer.getvalue())
    return path


def read_rows(directory: str, split: str) -> Rows:
    """What `EmbedImages` noted of the images of a split."""
    found = [(path, _load(path)) for path in _files(directory, _ROWS, split)]
    parts = [part for _, part in found]
    places = [
        np.column_stack([np.full(len(part["labels"]), shard), number * _CHUNK + np.arange(len(part["labels"]))])
        for (path, part) in found
        for shard, number in [map(int, Path(path).stem.split("-")[-2:])]
    ]
    return Rows(
        labels=np.concatenate([np.zeros([0], np.int64), *(part["labels"] for part in parts)]),
        folds=np.concatenate([np.zeros([0, _MOST_FOLDS], bool), *(part["folds"] for part in parts)]),
        hashes={
            kind: np.concatenate([np.zeros([0], np.uint64), *(part[kind] for part in parts)])
            for kind in duplicates.KINDS
        },
        places=np.concatenate([np.zeros([0, 2], np.int64), *places]),
    )


def read_features(directory: str, model: str, split: str, memory: Path) -> np.ndarray:
    """The embeddings of a split, float32 [N, d], chunk by chunk into the file `memory`, of which a map is returned."""
    count, parts = 0, []
    with open(memory, "wb") as file:
        for path in _files(directory, model, split):
            part = np.ascontiguousarray(_load(path)["features"], np.float32)
            file.write(part.tobytes())
            count, parts = count + len(part), [part.shape[1]]
    return np.memmap(memory, np.float32, "r", shape=(count, *parts))


def _files(directory: str, content: str, split: str) -> list[str]:
    (match,) = FileSystems.match([f"{directory}/{content}/{split}-*.npz"])
    return sorted(metadata.path for metadata in match.metadata_list)


def _load(path: str) -> dict[str, np.ndarray]:
    with FileSystems.open(path) as file, np.load(io.BytesIO(file.read()), allow_pickle=False) as arrays:
        return dict(arrays)


def images_at(files: list[str], places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The images at file and record numbers [n, 2], repeated ones too: uint8 [n, height, width, 3]."""
    found = np.empty([len(places), *size, 3], np.uint8)
    for shard in np.unique(places[:, 0]):
        here = places[:, 0] == shard
        records, order = np.unique(places[here, 1], return_inverse=True)
        found[here] = _read(files[shard], records, size)[order]
    return found


def _read(file: str, records: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Record numbers in rising order to images, in one pass over the file, which ends at the last one."""
    numbered = tf.data.TFRecordDataset(file).enumerate()
    wanted = numbered.filter(lambda number, _: tf.reduce_any(number == records)).map(lambda _, record: record)
    batch = next(iter(wanted.take(len(records)).batch(len(records))))
    return examples.pixels(examples.parse(batch, examples.IMAGE)[examples.IMAGE], size).numpy()
