"""Embeds all images of a source in Beam: read and decode pictures -> embed -> write a part for each block of images.

No images cross a shuffle, and a worker holds one block at a time, which is limited in bytes. A block that is embedded
again gives the same part.
"""

from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference

from components.embeddings import parts
from components.embeddings.parts import Part
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.rejections import Rejected
from components.image_example_gen.sources.base import Source, Work
from components.image_example_gen.transforms import Block, ReadImages, Shard, images_per_block
from components.inference import Inference
from trainer import fitting, splits

Size = tuple[int, int]


class Images(NamedTuple):
    """What is written of a block beside the embeddings; see `Part`."""

    shard: Shard
    ids: list[str]
    labels: list[int]
    rejected: list[Rejected]


class EmbedSource(beam.PTransform):
    """Writes the embeddings of a source's images as parts.

    Input: the pipeline. Output: the path of each part that was written.

    Args:
        source: The images.
        settings: The size in which pictures are decoded.
        model: The directory of the exported encoder; every worker must be able to read it.
        size: Height and width of the images that the encoder takes, in pixels.
        directory: The directory for the parts, local or in a bucket; every worker must be able to write to it.
        finished: The names of the parts that need not be written again.
    """

    def __init__(
        self,
        source: Source,
        settings: IngestSettings,
        model: str,
        size: Size,
        directory: str,
        finished: frozenset[str] = frozenset(),
    ):
        super().__init__()
        self._source, self._settings, self._finished = source, settings, finished
        self._model, self._size, self._directory = model, size, directory

    def expand(self, pipeline):
        images = images_per_block(self._settings)
        work = [each for each in self._source.work(images) if not self._is_finished(each, images)]
        done = sum(self._source.counts.values()) - sum(each.count for each in work)
        return (
            pipeline
            # Spread by the next step; `Create` would spread its elements itself, for a second time.
            | "ListWork" >> beam.Create(work, reshuffle=False)
            | "Spread" >> beam.Reshuffle()
            | "ReadImages" >> ReadImages(self._source, self._settings, images, "Embedding", done)
            # An archive is one piece of work, which is read from its start again.
            | "SkipFinished" >> beam.Filter(lambda block, done: parts.name_of(block.shard) not in done, self._finished)
            | "Fit" >> beam.Map(fitted, self._size)
            | "Embed" >> RunInference(KeyedModelHandler(Inference(self._model)))
            | "WriteParts" >> beam.Map(_write, directory=self._directory)
        )

    def _is_finished(self, work: Work, images: int) -> bool:
        if not work.split:
            return False
        numbers = range(work.first // images, (work.first + work.count - 1) // images + 1)
        total = self._source.shards(work.split, images)
        return all(parts.name_of(Shard(work.split, number, total)) in self._finished for number in numbers)


def part_names(source: Source, settings: IngestSettings) -> list[str]:
    """Returns the names of all parts of a source, in the order of its images."""
    return [parts.name_of(shard) for shard in _shards(source, images_per_block(settings))]


def _shards(source: Source, images: int) -> Iterator[Shard]:
    for split in splits.SPLITS:
        total = source.shards(split, images)
        yield from (Shard(split, number, total) for number in range(total))


def fitted(block: Block, size: Size) -> tuple[Images, np.ndarray]:
    """Returns the pixels of a block in the size that the encoder takes, uint8 [n, height, width, 3]."""
    pictures = [row.picture for row in block.rows]
    ids, labels = [picture.id for picture in pictures], [picture.label for picture in pictures]
    pixels = np.zeros([len(block.rows), *size, 3], np.uint8)
    for target, row in zip(pixels, block.rows, strict=True):
        # Images that are stored in another size are fitted as an exported encoder fits them.
        exact = row.image.shape[:2] == size
        target[...] = row.image if exact else tf.round(fitting.fit(row.image[np.newaxis], size)[0]).numpy()
    return Images(block.shard, ids, labels, block.rejected), pixels


def part_of(images: Images, vectors: np.ndarray) -> Part:
    """Returns the embeddings of a block, float32 [n, d], as a part; those that are not finite are rejected."""
    finite = np.isfinite(vectors).all(axis=1)
    split = images.shard.split
    lost = [Rejected(split, images.ids[i], "its embedding is not finite") for i in np.flatnonzero(~finite)]
    return Part(
        split=split,
        ids=[images.ids[i] for i in np.flatnonzero(finite)],
        labels=np.array(images.labels, np.int64)[finite],
        vectors=np.asarray(vectors, np.float32)[finite],
        rejected=[*images.rejected, *lost],
    )


def _write(result: tuple[Images, np.ndarray], directory: str) -> str:
    images, vectors = result
    path = f"{directory}/{parts.name_of(images.shard)}"
    parts.write(path, part_of(images, vectors))
    return path
