"""Compares encoders on labelled images, each in its own size, without a pipeline and without a verdict."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam

from components.image_example_gen import artifact as examples_artifact
from components.linear_probe_evaluator import embedding, evaluation, label_curves, references, training_variance
from components.linear_probe_evaluator.artifact import Comparison
from components.linear_probe_evaluator.config import EvaluatorSettings
from components.linear_probe_evaluator.embedding import Encoder
from components.linear_probe_evaluator.references import Images, Subject
from trainer import data, export, splits
from trainer.errors import DataError


class Named(NamedTuple):
    """An exported encoder, and its name in reports."""

    name: str
    encoder: Encoder


def compare(
    settings: EvaluatorSettings,
    models: list[Named],
    labelled: str,
    scratch: str,
    local_scratch: Path,
    make_pipeline: Callable[[], Any] = beam.Pipeline,
) -> Comparison:
    """Measures encoders beside each other.

    Args:
        settings: `label_shares`, `neighbours` and `seed` apply.
        models: The encoders; the others are compared with the first.
        labelled: ImageExampleGen's artifact with the labelled splits.
        scratch: Folder for intermediate results, which every Beam worker can write to.
        local_scratch: Local folder for memory maps.
        make_pipeline: Makes the Beam pipeline that embeds the images.

    Raises:
        DataError: If there are no labelled images.
    """
    dataset = examples_artifact.read(labelled)
    counts = {split: dataset.counts[split] for split in (splits.TRAIN, splits.TEST)}
    if not all(counts.values()):
        raise DataError(
            f"{dataset.source} lacks labelled images: there are {counts[splits.TRAIN]:,} in train/ and "
            f"{counts[splits.TEST]:,} in test/. A probe is fitted on train and scored on test."
        )
    files = {
        split: data.matching_files([f"{examples_artifact.split_directory(labelled, split)}/*"]) for split in counts
    }
    roles = {f"model-{number}": model for number, model in enumerate(models)}
    encoders = {role: model.encoder for role, model in roles.items()}
    size = (dataset.image_size, dataset.image_size)
    with make_pipeline() as pipeline:
        _ = pipeline | embedding.EmbedImages(files, size, encoders, scratch, sum(counts.values()))
    rows = {split: embedding.read_rows(scratch, split) for split in files}
    images = Images(files, rows, len(dataset.class_names))
    compared, curves, without = [], {}, {}
    for role, (name, encoder) in roles.items():
        measured = evaluation.measure(settings.seed, scratch, local_scratch, role, rows, images.classes)
        seconds = export.training_seconds(encoder.directory)
        subject = Subject(name, encoder, measured.train, measured.test, measured.score.hits, seconds)
        curves[name], without[role] = references.curve(settings, images, subject), measured.without_embedding
        compared.append(references.compared(settings, images, subject, curves[name]))
    (first, ours), *others = curves.items()
    names = {role: model.name for role, model in roles.items()}
    return Comparison(
        data=dataset.source,
        fingerprint=dataset.fingerprint,
        counts=counts,
        models=tuple(compared),
        leads={
            name: tuple(label_curves.lead(curve[labels], ours[labels], labels, first) for labels in sorted(ours))
            for name, curve in others
        },
        notes=(
            *training_variance.sentences(
                {name: encoder.directory for name, encoder in models},
                {name: curve[max(curve)][0] for name, curve in curves.items()},
            ),
            *references.doubts(names, encoders, without, dataset.stored_size or dataset.image_size),
        ),
    )
