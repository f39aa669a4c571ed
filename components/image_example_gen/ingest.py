"""Ingests a source with Beam, and judges the result."""

import collections
import json
from typing import NamedTuple

import apache_beam as beam
import tensorflow as tf

from components.image_example_gen import artifact, transforms
from components.image_example_gen.artifact import REJECTED, Dataset
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.fingerprint import require_unchanged
from components.image_example_gen.sources.base import Source
from trainer import splits
from trainer.errors import DataError

_SHOWN_REJECTS = 5


class _Rejected(NamedTuple):
    """An image that could not be decoded."""

    split: str
    id: str
    reason: str


def ingest(
    source: Source, fingerprint: str, settings: IngestSettings, directory: str, make_pipeline=beam.Pipeline
) -> Dataset:
    """Writes all images of a source as TFRecords, and `dataset.json`, which completes the artifact.

    Args:
        source: The images.
        fingerprint: Fingerprint of the source's contents.
        settings: How images become examples.
        directory: Path or `gs://` URI of the artifact.
        make_pipeline: Makes the Beam pipeline.

    Raises:
        DataError: If more images than `settings.max_rejected` are undecodable, or all images of a split; or if a file
            of the source changed while it was read.
    """
    with make_pipeline() as pipeline:
        written = pipeline | "IngestImages" >> transforms.IngestImages(source, settings.image_size, directory)
        (
            written
            | "CountSplits" >> beam.CombinePerKey(sum)
            | "DescribeCounts" >> beam.Map(json.dumps)
            | "WriteCounts" >> beam.io.WriteToText(f"{directory}/counts/splits", ".jsonl", num_shards=1)
        )
    require_unchanged(source, fingerprint)
    rejected = [_Rejected(**json.loads(line)) for line in _lines(f"{directory}/{REJECTED}/*.jsonl")]
    if len(rejected) > settings.max_rejected:
        raise DataError(_too_many(rejected, settings.max_rejected, f"{directory}/{REJECTED}"))
    written_counts: dict[str, int] = dict(json.loads(line) for line in _lines(f"{directory}/counts/*.jsonl"))
    counts = dict.fromkeys(splits.SPLITS, 0) | written_counts
    lost = collections.Counter(picture.split for picture in rejected)
    for split, count in counts.items():
        if source.counts[split] and not count:
            raise DataError(f"{source.path}: none of the {lost[split]} pictures of the split {split} can be decoded.")
        # TFX expects at least one file in every split's folder, also in that of a split without images.
        if not source.counts[split]:
            transforms.write_shard((transforms.Shard(split, 0, 1), []), directory)
    for leftover in ("counts", "partial"):
        if tf.io.gfile.exists(f"{directory}/{leftover}"):
            tf.io.gfile.rmtree(f"{directory}/{leftover}")
    dataset = Dataset(
        source=source.path,
        fingerprint=fingerprint,
        kind=source.kind,
        image_size=settings.image_size,
        counts=counts,
        rejected=len(rejected),
        class_names=source.class_names,
    )
    artifact.write(directory, dataset)
    return dataset


def _lines(pattern: str) -> list[str]:
    lines = []
    for path in sorted(tf.io.gfile.glob(pattern)):
        with tf.io.gfile.GFile(path) as file:
            lines += list(file)
    return lines


def _too_many(rejected: list[_Rejected], allowed: int, listing: str) -> str:
    pictures = sorted(rejected)
    shown = "; ".join(f"{picture.id} ({picture.reason})" for picture in pictures[:_SHOWN_REJECTS])
    more = f"; and {len(pictures) - _SHOWN_REJECTS} more, listed in {listing}" if len(pictures) > _SHOWN_REJECTS else ""
    return (
        f"{len(pictures)} pictures cannot be decoded, {allowed} are allowed: {shown}{more}. "
        f"Repair or remove them, or go on without them: --set data.max_rejected={len(pictures)}."
    )
