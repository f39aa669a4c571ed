"""Ingests a source with Beam, and judges the result."""

import collections
import json

import apache_beam as beam
import tensorflow as tf

from components import artifact_files
from components.image_example_gen import artifact, rejections, transforms
from components.image_example_gen.artifact import REJECTED_FILE, Dataset
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.fingerprint import require_unchanged
from components.image_example_gen.rejections import Rejected
from components.image_example_gen.sources.base import Source
from components.image_example_gen.transforms import WrittenShard
from trainer import splits, survey
from trainer.errors import DataError
from trainer.survey import Surveys


def ingest(
    source: Source, fingerprint: str, settings: IngestSettings, directory: str, make_pipeline=beam.Pipeline
) -> Dataset:
    """Writes all images of a source as TFRecords, their survey, and `dataset.json`, which completes the artifact.

    Args:
        source: The images.
        fingerprint: Fingerprint of the source's contents.
        settings: How images become examples.
        directory: Path or `gs://` URI of the artifact.
        make_pipeline: Makes the Beam pipeline.

    Raises:
        DataError: If all images of a split are undecodable, a file of the source changed while it was read, or workers
            wrote examples to a storage that this machine does not see.
        RejectedPictures: If more images than `settings.max_rejected` are undecodable.
    """
    with make_pipeline() as pipeline:
        _ = pipeline | "IngestImages" >> transforms.IngestImages(source, settings, directory)
    require_unchanged(source, fingerprint)
    _require_shared_storage(source, settings, directory)
    rejected = sorted(Rejected(**json.loads(line)) for line in _lines(f"{directory}/{transforms.REJECTED}/*.jsonl"))
    listing = rejections.judged(rejected, source.left_out, settings.max_rejected)
    counts = dict.fromkeys(splits.SPLITS, 0)
    shards = [WrittenShard.model_validate_json(line) for line in _lines(f"{directory}/{transforms.WRITTEN}/*.jsonl")]
    for shard in shards:
        counts[shard.split] += shard.file.survey.records
    lost = collections.Counter(picture.split for picture in rejected)
    missing = sum(source.counts.values()) - sum(counts.values()) - len(rejected)
    if missing:
        raise DataError(
            f"{source.path}: {missing} of {sum(source.counts.values())} pictures were neither ingested nor rejected: "
            "they may have changed while they were read. Start the same command again."
        )
    for split, count in counts.items():
        if source.counts[split] and not count:
            raise DataError(f"{source.path}: none of the {lost[split]} pictures of the split {split} can be decoded.")
        # TFX expects at least one file in every split's folder, also in that of a split without images.
        if not source.counts[split]:
            shards.append(transforms.write_shard((transforms.Shard(split, 0, 1), []), directory))
    surveys = Surveys({shard.name: shard.file for shard in sorted(shards, key=lambda shard: shard.name)})
    artifact_files.write_json(f"{directory}/{survey.FILE_NAME}", surveys)
    artifact_files.write(f"{directory}/{REJECTED_FILE}", listing.encode())
    for leftover in (transforms.WRITTEN, transforms.REJECTED, "partial"):
        if tf.io.gfile.exists(f"{directory}/{leftover}"):
            tf.io.gfile.rmtree(f"{directory}/{leftover}")
    dataset = Dataset(
        source=source.path,
        fingerprint=fingerprint,
        kind=source.kind,
        image_size=settings.image_size,
        stored_size=settings.stored_size,
        counts=counts,
        rejected=len(rejected),
        left_out=rejections.counted(source.left_out),
        class_names=source.class_names,
    )
    artifact.write(directory, dataset)
    return dataset


def _require_shared_storage(source: Source, settings: IngestSettings, directory: str) -> None:
    """Raises a DataError if shards are missing, although Beam has reported success."""
    unseen = 0
    for split in source.counts:
        expected = source.shards(split, transforms.images_per_block(settings))
        folder = artifact.split_directory(directory, split)
        unseen += expected - (len(tf.io.gfile.listdir(folder)) if tf.io.gfile.exists(folder) else 0)
    if unseen:
        raise DataError(
            f"Beam's workers wrote {unseen} files of examples that this machine does not see in {directory}: let all "
            "workers and this machine share the folder under the same path, or use a bucket."
        )


def _lines(pattern: str) -> list[str]:
    lines = []
    for path in sorted(tf.io.gfile.glob(pattern)):
        with tf.io.gfile.GFile(path) as file:
            lines += list(file)
    return lines
