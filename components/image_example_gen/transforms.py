"""Ingest as Beam transforms: read and decode pictures -> serialise examples -> write shards.

The elements between the transforms are blocks: consecutive images of one split, which become one shard. Therefore the
shards do not depend on how a runner bundles and retries the work, no images cross a shuffle, and a worker holds only
one block at a time. Pictures are decoded and resized one by one while a block is read, so that large photographs never
accumulate in memory.
"""

import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.metrics import Metrics

from components.image_example_gen import encoding
from components.image_example_gen.artifact import split_directory
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.sources.base import Picture, Source, Work
from trainer.progress import Reporter

#: Folder for the list of undecodable pictures while ingest runs.
REJECTED = "rejected"
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


Block = tuple[Shard, list[Row]]


def images_per_block(size: int) -> int:
    """Returns how many images with about `size` x `size` pixels make a block of about 32 MiB."""
    return max(1, min(_MOST_IMAGES_PER_BLOCK, _BLOCK_BYTES // (3 * size * size)))


class IngestImages(beam.PTransform):
    """Writes a source's images as sharded TFRecords.

    Input: the pipeline. Output: one pair `(split, number of examples written)` per block.

    Args:
        source: The images to write.
        settings: Size and encoding of the images in the TFRecords.
        directory: The directory for `Split-*/` and `rejected/`, local or `gs://`.
    """

    def __init__(self, source: Source, settings: IngestSettings, directory: str):
        super().__init__()
        self._source, self._settings, self._directory = source, settings, directory

    def expand(self, pipeline):
        images = images_per_block(self._settings.stored_size or self._settings.image_size)
        read = (
            pipeline
            | "ListWork" >> beam.Create(self._source.work(images))
            | "Spread" >> beam.Reshuffle()
            | "ReadImages" >> ReadImages(self._source, self._settings, images)
        )
        (
            read[REJECTED]
            | "DescribeRejected" >> beam.Map(json.dumps)
            | "WriteRejected" >> beam.io.WriteToText(f"{self._directory}/{REJECTED}/pictures", ".jsonl", num_shards=1)
        )
        return (
            read.blocks
            | "ToExamples" >> beam.Map(to_examples, self._settings)
            | "WriteShards" >> WriteShards(self._directory)
        )


class ReadImages(beam.PTransform):
    """Reads images, decodes them and shrinks them to the size in which they are stored.

    Input: `Work`. Outputs: `blocks`; and `rejected`, a dictionary of `split`, `id` and `reason` for each undecodable
    picture.

    Args:
        source: The images to read.
        settings: Size of the images.
        images: The number of images in a block.
    """

    def __init__(self, source: Source, settings: IngestSettings, images: int):
        super().__init__()
        self._reader = _ReadImagesFn(source, settings, images)

    def expand(self, work):
        return work | beam.ParDo(self._reader).with_outputs(REJECTED, main="blocks")


@beam.typehints.with_output_types(Block)
class _ReadImagesFn(beam.DoFn):
    def __init__(self, source: Source, settings: IngestSettings, images: int):
        self._source, self._settings, self._images = source, settings, images
        self._counted = Metrics.counter("ingest", "images")

    def setup(self):
        self._reporter = Reporter("Ingest", sum(self._source.counts.values()))

    def process(self, work: Work):
        shard, rows = None, list[Row]()
        for picture in self._source.read(work):
            if self._shard_of(picture) != shard:
                if shard:
                    yield shard, rows
                shard, rows = self._shard_of(picture), []
            try:
                pixels = encoding.to_stored_size(picture, self._settings)
                # Without the encoded bytes, which may be many times as large as the stored pixels.
                rows.append(Row(dataclasses.replace(picture, content=b""), pixels, encoding.source_size(picture)))
            except encoding.Undecodable as error:
                rejected = {"split": picture.split, "id": picture.id, "reason": str(error)}
                yield beam.pvalue.TaggedOutput(REJECTED, rejected)
            self._counted.inc()
            self._reporter.advance(1)
        if shard:
            yield shard, rows

    def _shard_of(self, picture: Picture) -> Shard:
        shards = self._source.shards(picture.split, self._images)
        return Shard(picture.split, picture.index // self._images, shards)


def to_examples(block: Block, settings: IngestSettings) -> tuple[Shard, list[bytes]]:
    """Serialises the images of a block as `tf.train.Example`s."""
    shard, rows = block
    return shard, [
        encoding.to_example(picture, image, settings.image_size, settings.encoding, source_size)
        for picture, image, source_size in rows
    ]


class WriteShards(beam.PTransform):
    """Writes each block as one TFRecord file.

    Input: `(Shard, serialised examples)`. Output: `(split, number of examples written)`.

    Args:
        directory: The directory for `Split-*/`, local or `gs://`.
    """

    def __init__(self, directory: str):
        super().__init__()
        self._directory = directory

    def expand(self, shards):
        return shards | beam.Map(write_shard, self._directory)


def write_shard(shard_and_records: tuple[Shard, Iterable[bytes]], directory: str) -> tuple[str, int]:
    """Writes one shard, and replaces the shard if it already exists.

    The file is first written in another folder, so that an incomplete file never has a shard's name.

    Args:
        shard_and_records: The shard and its serialised examples.
        directory: The directory for `Split-*/`, local or `gs://`.

    Returns:
        The split, and the number of examples written.
    """
    shard, records = shard_and_records
    unfinished = f"{directory}/partial/{shard.split}-{shard.file_name}-{os.urandom(4).hex()}"
    path = f"{split_directory(directory, shard.split)}/{shard.file_name}"
    tf.io.gfile.makedirs(os.path.dirname(unfinished))
    tf.io.gfile.makedirs(os.path.dirname(path))
    written = 0
    with tf.io.TFRecordWriter(unfinished) as writer:
        for record in records:
            writer.write(record)
            written += 1
    tf.io.gfile.rename(unfinished, path, overwrite=True)
    return shard.split, written
