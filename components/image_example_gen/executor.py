"""Runs ingest and judges its result."""

import collections
import json
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils

from components import json_file, outputs
from components.image_example_gen import transforms
from components.image_example_gen.sources.base import Source
from components.image_example_gen.sources.opening import open_labelled, open_source
from trainer import examples
from trainer.errors import DataError

EXAMPLES = "examples"
SOURCE, FINGERPRINT, IMAGE_SIZE, MAX_REJECTED = "source", "fingerprint", "image_size", "max_rejected"
LABELLED_ONLY = "labelled_only"

_SHOWN_REJECTS = 5
_DESCRIPTION = "dataset.json"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Ingests `source` and writes the artifact `examples`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        outputs.empty(output_dict)
        artifact = artifact_utils.get_single_instance(output_dict[EXAMPLES])
        opening = open_labelled if exec_properties[LABELLED_ONLY] else open_source
        source = opening(exec_properties[SOURCE])
        fingerprint = exec_properties[FINGERPRINT]
        ingest(
            source,
            fingerprint,
            exec_properties[IMAGE_SIZE],
            exec_properties[MAX_REJECTED],
            artifact.uri,
            self._make_beam_pipeline,
        )
        artifact.split_names = artifact_utils.encode_split_names(list(examples.SPLITS))
        artifact.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
        artifact.set_string_custom_property(FINGERPRINT, fingerprint)


def ingest(
    source: Source,
    fingerprint: str,
    image_size: int,
    max_rejected: int,
    directory: str,
    make_pipeline=beam.Pipeline,
) -> None:
    """Writes all images of `source` below `directory`, and `dataset.json` beside them.

    Raises:
        DataError: more pictures are undecodable than `max_rejected`, or a split is left empty by that.
    """
    with make_pipeline() as pipeline:
        written = pipeline | "IngestImages" >> transforms.IngestImages(source, image_size, directory)
        (
            written
            | "CountSplits" >> beam.CombinePerKey(sum)
            | "DescribeCounts" >> beam.Map(json.dumps)
            | "WriteCounts" >> beam.io.WriteToText(f"{directory}/counts/splits", ".jsonl", num_shards=1)
        )
    rejected = _rows(f"{directory}/{transforms.REJECTED}/*.jsonl")
    if len(rejected) > max_rejected:
        raise DataError(_too_many(rejected, max_rejected, f"{directory}/{transforms.REJECTED}"))
    counts = dict.fromkeys(examples.SPLITS, 0) | dict(_rows(f"{directory}/counts/*.jsonl"))
    lost = collections.Counter(row["split"] for row in rejected)
    for split, count in counts.items():
        if source.counts[split] and not count:
            raise DataError(f"{source.path}: none of the {lost[split]} pictures of the split {split} can be decoded.")
        # TFX expects every split's folder to match at least one file, also of a split that has no images.
        if not source.counts[split]:
            transforms.write_shard((transforms.Shard(split, 0, 1), []), directory)
    for leftover in ("counts", "partial"):
        if tf.io.gfile.exists(f"{directory}/{leftover}"):
            tf.io.gfile.rmtree(f"{directory}/{leftover}")
    description = {
        "source": source.path,
        "fingerprint": fingerprint,
        "kind": source.kind,
        "image_size": image_size,
        "counts": counts,
        "rejected": len(rejected),
        "class_names": source.class_names,
    }
    json_file.write(directory, _DESCRIPTION, description)


def describe(directory: str) -> dict[str, Any]:
    """What `ingest` wrote beside the examples.

    That is source, fingerprint, kind, image_size, counts, rejected, class_names.
    """
    return json_file.read(directory, _DESCRIPTION)


def _rows(pattern: str) -> list[Any]:
    rows = []
    for path in sorted(tf.io.gfile.glob(pattern)):
        with tf.io.gfile.GFile(path) as file:
            rows += [json.loads(line) for line in file]
    return rows


def _too_many(rejected: list[dict[str, str]], allowed: int, listing: str) -> str:
    rows = sorted(rejected, key=lambda row: (row["split"], row["id"]))
    shown = "; ".join(f"{row['id']} ({row['reason']})" for row in rows[:_SHOWN_REJECTS])
    more = f"; and {len(rows) - _SHOWN_REJECTS} more, listed in {listing}" if len(rows) > _SHOWN_REJECTS else ""
    return (
        f"{len(rows)} pictures cannot be decoded, {allowed} are allowed: {shown}{more}. "
        f"Repair or remove them, or go on without them: --set data.max_rejected={len(rows)}."
    )
