"""Measures encoders beside each other: by number of labels, by their size and by their speed.

All are measured on the same test images, with the same draws of labels and, except for the one that is trained from
scratch, with the same linear probe on frozen features.
"""

import time
from dataclasses import dataclass

import numpy as np

from components.linear_probe_evaluator import embedding, label_curves, protocols, worth
from components.linear_probe_evaluator.artifact import Compared, Worth
from components.linear_probe_evaluator.config import REFERENCES, SUPERVISED, EvaluatorSettings, SupervisedSettings
from components.linear_probe_evaluator.embedding import Encoder, Rows
from components.linear_probe_evaluator.label_curves import Curve
from components.linear_probe_evaluator.probes import Labelled
from trainer import data, export, fine_tuning, metrics, pretrained, splits
from trainer.data import LabelledPixels

#: The name of the new encoder beside its references.
THIS = "this encoder"
_TIMED_CALLS = 3


@dataclass(frozen=True)
class Images:
    """The labelled images.

    Attributes:
        files: The paths of the TFRecord files by split.
        rows: Labels, folds and record numbers by split.
        classes: The number of classes.
    """

    files: dict[str, list[str]]
    rows: dict[str, Rows]
    classes: int


@dataclass(frozen=True)
class Subject:
    """An encoder that was measured.

    Attributes:
        name: Its name in reports.
        encoder: The exported encoder.
        train: Features and labels of the train split.
        test: Features and labels of the test split.
        hits: Whether the probe on all labels is right on each test image, bool [N].
        training_seconds: The time that its training took; None if it is unknown.
    """

    name: str
    encoder: Encoder
    train: Labelled
    test: Labelled
    hits: np.ndarray
    training_seconds: float | None = None


def exported(settings: EvaluatorSettings, directory: str) -> dict[str, Encoder]:
    """Loads the pretrained references and exports them, so that every Beam worker can read them.

    Args:
        settings: The references.
        directory: The directory to export them below.

    Returns:
        The exported networks by role, see `roles`.

    Raises:
        SettingsError: If one of them cannot be loaded, or gives no embeddings.
    """
    encoders = {}
    for role, reference in zip(roles(settings), settings.references.pretrained, strict=True):
        network = pretrained.load(reference, REFERENCES)
        # Apart from the embeddings, whose folder has the name of the role.
        path = f"{directory}/networks/{role}"
        pretrained.export_pretrained(network, path)
        encoders[role] = Encoder(path, network.size)
    return encoders


def roles(settings: EvaluatorSettings) -> dict[str, str]:
    """Returns the names of the pretrained references by role, which names files."""
    return {f"pretrained-{number}": one.title for number, one in enumerate(settings.references.pretrained)}


def doubts(names: dict[str, str], encoders: dict[str, Encoder], without: dict[str, int], stored: int) -> list[str]:
    """Says what makes the figures of the pretrained references doubtful.

    Args:
        names: Their names by role.
        encoders: The encoders by role.
        without: The number of labelled images without a finite embedding by role.
        stored: The length of the shorter side of the stored images, in pixels.
    """
    sentences = []
    for role, name in names.items():
        if without[role]:
            sentences.append(
                f"{name} gives no finite embedding of {without[role]:,} labelled images; they count as zeros."
            )
        if (size := max(encoders[role].size)) > stored:
            sentences.append(
                f"{name} takes images of {size} pixels and was given enlarged ones: they are stored with {stored} "
                "pixels (data.stored_size)."
            )
    return sentences


def draws(settings: EvaluatorSettings, rows: Rows) -> dict[int, list[np.ndarray]]:
    """Returns row numbers of the train split by number of labels: those of `label_shares`, and of official folds."""
    drawn = [protocols.draws(rows.labels, share, settings.seed) for share in settings.label_shares]
    if official := protocols.official_folds(rows.folds):
        drawn.append(official)
    counted = {round(np.mean([len(subset) for subset in subsets])): subsets for subsets in drawn}
    return {labels: counted[labels] for labels in sorted(counted) if labels < len(rows.labels)}


def curve(settings: EvaluatorSettings, images: Images, subject: Subject) -> Curve:
    """Measures an encoder's probe with each number of labels."""
    found = {
        labels: protocols.hits(subject.train, subject.test, subsets, images.classes, settings.seed)
        for labels, subsets in draws(settings, images.rows[splits.TRAIN]).items()
    }
    return found | {len(subject.train.labels): subject.hits[np.newaxis]}


def compared(settings: EvaluatorSettings, images: Images, subject: Subject, found: Curve) -> Compared:
    """Describes an encoder by what it reaches and what it costs."""
    train, test = subject.train, subject.test
    size = export.size(subject.encoder.directory)
    batch = min(export.batch_of(subject.encoder.size), len(test.labels))
    return Compared(
        name=subject.name,
        points=label_curves.points(found),
        knn_accuracy=metrics.knn_accuracy(
            train.features, train.labels, test.features, test.labels, settings.neighbours[0]
        ),
        image_size=subject.encoder.size,
        parameters=size.parameters,
        size_bytes=size.size_bytes,
        training_seconds=subject.training_seconds,
        images_per_second=_speed(images, subject.encoder, batch),
        batch=batch,
    )


def _speed(images: Images, encoder: Encoder, batch: int) -> float:
    """Returns how many images an encoder embeds in a second: the fastest of three calls with the first test images."""
    records = images.rows[splits.TEST].records[:batch]
    pixels = embedding.images_at(images.files[splits.TEST], records, encoder.size)
    embeddings = export.Embeddings.of_export(encoder.directory)
    # The first call compiles.
    embeddings(pixels)
    seconds = []
    for _ in range(_TIMED_CALLS):
        start = time.perf_counter()
        embeddings(pixels)
        seconds.append(time.perf_counter() - start)
    return batch / min(seconds)


@dataclass(frozen=True)
class References:
    """The measured references.

    Attributes:
        figures: What the report says.
        hits: Whether each alternative is right on each test image with all labels, bool [N] by name.
    """

    figures: Worth
    hits: dict[str, np.ndarray]


def measure(settings: EvaluatorSettings, images: Images, subjects: list[Subject]) -> References:
    """Measures an encoder beside its references.

    Args:
        settings: The references.
        images: The labelled images.
        subjects: The encoders whose features are known: the new one first.
    """
    ours, *others = subjects
    curves = {subject.name: curve(settings, images, subject) for subject in subjects}
    rows = [compared(settings, images, subject, curves[subject.name]) for subject in (ours, *others)]
    if settings.references.supervised:
        found, seconds = _supervised(settings.references.supervised, settings, images, ours.encoder)
        curves[SUPERVISED] = found
        # It is of the same architecture, and has no embeddings that were measured.
        figures = {"name": SUPERVISED, "points": label_curves.points(found), "training_seconds": seconds}
        rows.append(rows[0].model_copy(update=figures | {"knn_accuracy": None}))
    alternatives = {name: curves[name] for name in settings.references.names}
    leads = worth.leads(curves[ours.name], alternatives)
    figures_of_all = Worth(references=tuple(rows), leads=leads, worth=worth.answer(leads))
    return References(figures_of_all, {name: found[max(found)][0] for name, found in alternatives.items()})


def _supervised(
    settings: SupervisedSettings, evaluator: EvaluatorSettings, images: Images, encoder: Encoder
) -> tuple[Curve, float]:
    """Trains from scratch with each number of labels, on the first draw of each.

    Returns:
        The hits, and the seconds of the training on all labels.
    """
    train, test = (data.labelled_pixels(images.files[split], encoder.size) for split in (splits.TRAIN, splits.TEST))
    everything = {len(train.labels): [np.arange(len(train.labels))]}
    limit = settings.seconds or export.training_seconds(encoder.directory)
    found: Curve = {}
    seconds = 0.0
    for labels, (first, *_) in (draws(evaluator, images.rows[splits.TRAIN]) | everything).items():
        trained = fine_tuning.from_scratch(
            encoder.directory,
            LabelledPixels(train.pixels[first], train.labels[first]),
            test.pixels,
            images.classes,
            limit,
            settings.batch_size,
            settings.learning_rate,
            settings.patience,
            evaluator.seed,
        )
        found[labels], seconds = (trained.predicted == test.labels)[np.newaxis], trained.seconds
    return found, seconds
