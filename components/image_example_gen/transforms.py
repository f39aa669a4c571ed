"""Ingest as Beam transforms: read and decode pictures -> serialise examples -> write shards.

The elements between the transforms are blocks: consecutive images of one split, which become one shard. Therefore the
shards do not depend on how a runner bundles and retries the work, no images cross a shuffle, and a worker holds only
one block at a time. Pictures are decoded and resized one by one while a block is read, so that large photographs never
accumulate in memory.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.metrics import Metrics
from pydantic import BaseModel

from components.image_example_gen import decoding, encoding
from components.image_example_gen.artifact import split_directory
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.rejections import Rejected
from components.image_example_gen.sources.base import Picture, Source, Work
from trainer import survey
from trainer.progress import Reporter
from trainer.survey import SurveyedFile

#: Folders for the lists of written shards and of undecodable pictures while ingest runs.
WRITTEN, REJECTED = "written", "rejected"

_BLOCK_BYTES = 32 * 2**20
_MOST_IMAGES_PER_BLOCK = 1024


@dataclass(frozen=True)
class Shard:
    """The shard that a block becomes.

    Attributes:
        split: The split that the shard belongs to.
        number: The shard's number within the split, counted from 0.
        total: The number of shards in the split.
    """

    split: str
    number: int
    total: int

    @property
    def file_name(self) -> str:
        """The file's name, as TFX's own ExampleGens name an uncompressed shard."""
        return f"data_tfrecord-{self.number:05d}-of-{self.total:05d}"


class WrittenShard(BaseModel):
    """A shard that was written.

    Attributes:
        split: The split that the shard belongs to.
        name: The file's folder and name.
        file: What training must know of it.
    """

    split: str
    name: str
    file: SurveyedFile


class Row(NamedTuple):
    """One image of a block.

    Attributes:
        picture: The picture as its source gives it.
        image: The stored pixels, uint8 [height, width, 3].
        source_size: Height and width of the picture before it was resized.
    """

    picture: Picture
    image: np.ndarray
    source_size: tuple[int, int]


class Block(NamedTuple):
    """Consecutive images of one split, which become one shard.

    Attributes:
        shard: The shard that the block becomes.
        rows: The decoded images.
        rejected: The pictures of the block that could not be decoded.
    """

    shard: Shard
    rows: list[Row]
    rejected: list[Rejected]

    def add(self, picture: Picture, settings: IngestSettings) -> None:
        """Decodes a picture, and adds it or the reason why it cannot be decoded."""
        try:
            pixels = encoding.to_stored_size(picture, settings)
            # Without the encoded bytes, which may be many times as large as the stored pixels.
            self.rows.append(Row(dataclasses.replace(picture, content=b""), pixels, encoding.source_size(picture)))
        except decoding.Undecodable as error:
            self.rejected.append(Rejected(picture.split, picture.id, str(error)))


def images_per_block(settings: IngestSettings) -> int:
    """Returns how many images make a block of about 32 MiB."""
    size = settings.stored_size or settings.image_size
    return max(1, min(_MOST_IMAGES_PER_BLOCK, _BLOCK_BYTES // (3 * size * size)))


class IngestImages(beam.PTransform):
    """Writes a source's images as sharded TFRecords, and lists of what became of them.

    Input: the pipeline. Output: the paths of the lists: `written/pictures.jsonl` with a `WrittenShard` for each shard,
    and `rejected/pictures.jsonl` with a line for each undecodable picture. A list without lines is not written.

    Args:
        source: The images to write.
        settings: Size and encoding of the images in the TFRecords.
        directory: The directory for `Split-*/` and `rejected/`, local or `gs://`.
    """

    def __init__(self, source: Source, settings: IngestSettings, directory: str):
        super().__init__()
        self._source, self._settings, self._directory = source, settings, directory

    def expand(self, pipeline):
        images = images_per_block(self._settings)
        blocks = (
            pipeline
            # Spread by the next step; `Create` would spread its elements itself, for a second time.
            | "ListWork" >> beam.Create(self._source.work(images), reshuffle=False)
            | "Spread" >> beam.Reshuffle()
            | "ReadImages" >> ReadImages(self._source, self._settings, images)
        )
        examples = blocks | "ToExamples" >> beam.Map(to_examples, self._settings)
        written = examples | "WriteShards" >> WriteShards(self._directory)
        listed = (
            written | "ListWritten" >> beam.Map(lambda shard: (WRITTEN, shard.model_dump_json())),
            blocks
            | "ListRejected" >> beam.FlatMap(lambda block: [(REJECTED, _json_line(each)) for each in block.rejected]),
        )
        # One shuffle for both lists, as an engine needs network memory for each.
        return (
            listed
            | "BothLists" >> beam.Flatten()
            | "GatherLists" >> beam.GroupByKey()
            | "WriteLists" >> beam.Map(_write_list, directory=self._directory)
        )


def _json_line(picture: Rejected) -> str:
    return json.dumps(picture._asdict())


class ReadImages(beam.PTransform):
    """Reads images, decodes them and shrinks them to the size in which they are stored.

    Input: `Work`. Output: `Block`.

    Args:
        source: The images to read.
        settings: Size of the images.
        images: The number of images in a block.
        task: The name of the work in the progress display.
        done: The number of images that an interrupted attempt has finished, for the progress display.
    """

    def __init__(self, source: Source, settings: IngestSettings, images: int, task: str = "Ingest", done: int = 0):
        super().__init__()
        self._reader = _ReadImagesFn(source, settings, images, task, done)

    def expand(self, work):
        return work | beam.ParDo(self._reader)


@beam.typehints.with_output_types(Block)
class _ReadImagesFn(beam.DoFn):
    def __init__(self, source: Source, settings: IngestSettings, images: int, task: str, done: int):
        self._source, self._settings, self._images = source, settings, images
        self._task, self._done = task, done
        self._counted = Metrics.counter("ingest", "images")

    def setup(self):
        self._reporter = Reporter(self._task, sum(self._source.counts.values()), self._done)

    def process(self, work: Work):
        block = None
        for picture in self._source.read(work):
            shard = self._shard_of(picture)
            if block is None or block.shard != shard:
                if block:
                    yield block
                block = Block(shard, [], [])
            block.add(picture, self._settings)
            self._counted.inc()
            self._reporter.advance(1)
        if block:
            yield block

    def _shard_of(self, picture: Picture) -> Shard:
        total = self._source.shards(picture.split, self._images)
        return Shard(picture.split, picture.index // self._images, total)


def to_examples(block: Block, settings: IngestSettings) -> tuple[Shard, list[bytes]]:
    """Serialises the images of a block as `tf.train.Example`s."""
    return block.shard, [
        encoding.to_example(picture, image, settings.image_size, settings.encoding, source_size)
        for picture, image, source_size in block.rows
    ]


class WriteShards(beam.PTransform):
    """Writes each block as one TFRecord file.

    Input: `(Shard, serialised examples)`. Output: `WrittenShard`.

    Args:
        directory: The directory for `Split-*/`, local or `gs://`.
    """

    def __init__(self, directory: str):
        super().__init__()
        self._directory = directory

    def expand(self, shards):
        return shards | beam.Map(write_shard, self._directory)


def write_shard(shard_and_records: tuple[Shard, Iterable[bytes]], directory: str) -> WrittenShard:
    """Writes one shard, and replaces the shard if it already exists.

    The file is first written in another folder, so that an incomplete file never has a shard's name.

    Args:
        shard_and_records: The shard and its serialised examples.
        directory: The directory for `Split-*/`, local or `gs://`.
    """
    shard, records = shard_and_records[0], list(shard_and_records[1])
    path = f"{split_directory(directory, shard.split)}/{shard.file_name}"
    prefix = f"{directory}/partial/{shard.split}-{shard.file_name}"
    with _completed(path, prefix) as unfinished, tf.io.TFRecordWriter(unfinished) as writer:
        for record in records:
            writer.write(record)
    return WrittenShard(split=shard.split, name=survey.key(path), file=survey.of_file(records))


def _write_list(list_and_lines: tuple[str, Iterable[str]], directory: str) -> str:
    name, lines = list_and_lines
    path = f"{directory}/{name}/pictures.jsonl"
    with _completed(path, f"{directory}/partial/{name}") as unfinished, tf.io.gfile.GFile(unfinished, "w") as file:
        for line in lines:
            file.write(f"{line}\n")
    return path


@contextmanager
def _completed(path: str, prefix: str) -> Iterator[str]:
    """Yields a path for a file that becomes `path`: a new one, as two workers may do the same work at a time."""
    unfinished = f"{prefix}-{os.urandom(4).hex()}"
    tf.io.gfile.makedirs(os.path.dirname(unfinished))
    tf.io.gfile.makedirs(os.path.dirname(path))
    yield unfinished
    tf.io.gfile.rename(unfinished, path, overwrite=True)
