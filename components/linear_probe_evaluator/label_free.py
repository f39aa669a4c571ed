"""Measures and judges encoders on unlabelled images: whether they recognise an image in another one of its views.

The views are drawn as the candidate's training draws them, and every encoder is given the same ones.

An image is a hit, as in `significance`, if its neighbour is consistent (see `view_metrics`). The hits are not
independent, because all images are each other's possible neighbours. This does not matter: over 48 to 240 samples of
100 to 500 images of the demo, the standard deviation of the difference of two encoders was 0.9 to 1.1 times that of
independent hits.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from components.champion_resolver.artifact import Champion
from components.linear_probe_evaluator import findings, gate, significance
from components.linear_probe_evaluator.artifact import Check, Difference, LabelFree, Verdict, ViewQuality
from components.linear_probe_evaluator.config import EvaluatorSettings
from components.linear_probe_evaluator.roles import BEST_RELEASE, CANDIDATE, CHAMPION, UNTRAINED
from trainer import augmentation, data, examples, export, metrics, view_metrics
from trainer.augmentation import StoredImages
from trainer.progress import Reporter
from trainer.results import EncoderDescription

#: What is told of every evaluation without labels.
BIAS = (
    "The encoders were measured on a random sample of the unlabelled images, none of which the pretraining holds out, "
    "and with views like those of the training: this favours the new encoder."
)
_MOST_IMAGES = 2_000
# LiDAR needs several views of each image; the other measures use the first two.
_VIEWS = 8
# Of `augmentation.uniform_numbers`: no training uses so many streams.
_STREAM = 1_000


@dataclass(frozen=True)
class Measured:
    """An encoder's figures on a sample of images.

    Attributes:
        quality: The figures.
        consistent: Whether the nearest neighbour of each image's first view is its second view, bool [N].
        not_finite: The number of images with a view whose embedding is not finite; these embeddings count as zeros.
        embedding_size: The length of an embedding.
    """

    quality: ViewQuality
    consistent: np.ndarray
    not_finite: int
    embedding_size: int


def measure(models: dict[str, str], files: list[str], images: int, seed: int) -> dict[str, Measured]:
    """Measures encoders on the same views of a random sample of images.

    Args:
        models: The directories of the exported encoders by role.
        files: TFRecords of unlabelled images.
        images: The number of images in these files, at least two.
        seed: The seed of the sample and of its views.
    """
    description = export.describe(models[CANDIDATE])
    sampled = min(images, _MOST_IMAGES)
    encoders = {name: export.Embeddings.of_export(directory) for name, directory in models.items()}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in models}
    reporter = Reporter("Comparing views", sampled)
    for views in _views(description, files, images, sampled, seed):
        pixels = views.reshape(-1, *views.shape[2:])
        for name, encoder in encoders.items():
            parts[name].append(encoder(pixels).reshape(*views.shape[:2], -1))
        reporter.advance(len(views))
    return {name: _measured(np.concatenate(embeddings)) for name, embeddings in parts.items()}


def _views(
    description: EncoderDescription, files: list[str], images: int, sampled: int, seed: int
) -> Iterator[np.ndarray]:
    """Reads all records in one pass, and yields batches of views, uint8 [n, views, height, width, 3]."""
    size, strengths = description.image_size, description.settings.augmentation
    wanted = np.zeros([images], bool)
    wanted[np.random.default_rng(seed).choice(images, sampled, replace=False)] = True
    numbers = [augmentation.uniform_numbers(seed, _STREAM, tf.constant(view), sampled) for view in range(_VIEWS)]

    def draw(record: tf.Tensor, numbers_of_image: tf.Tensor) -> tf.Tensor:
        parsed = examples.parse(record[tf.newaxis], *examples.PIXEL_FEATURES)
        pixels = examples.decode(*(parsed[name][0] for name in examples.PIXEL_FEATURES))
        drawn = tf.unstack(numbers_of_image[:, tf.newaxis])
        views = augmentation.random_views(StoredImages.whole(pixels[tf.newaxis]), drawn, strengths, size)
        return tf.cast(tf.round(255.0 * views), tf.uint8)

    records = tf.data.TFRecordDataset(files, num_parallel_reads=min(len(files), 4))
    marked = tf.data.Dataset.zip(records, tf.data.Dataset.from_tensor_slices(wanted))
    sample = marked.filter(lambda _, is_wanted: is_wanted).map(lambda record, _: record)
    with_numbers = tf.data.Dataset.zip(sample, tf.data.Dataset.from_tensor_slices(tf.stack(numbers, axis=1)))
    batch = max(1, export.batch_of(size) // _VIEWS)
    # Large images are drawn one after the other, to save memory.
    with data.problems_named(files):
        yield from with_numbers.map(draw, min(batch, 8)).batch(batch).prefetch(1).as_numpy_iterator()


def _measured(embeddings: np.ndarray) -> Measured:
    """Computes the figures of embeddings, [N, views, d], whose rows that are not finite it sets to zeros."""
    bad = ~np.isfinite(embeddings).all(axis=2)
    embeddings[bad] = 0
    first, second = embeddings[:, 0], embeddings[:, 1]
    consistent = view_metrics.consistent_neighbours(first, second)
    quality = ViewQuality(
        neighbour_consistency=float(consistent.mean()),
        interval=significance.accuracy_interval(consistent),
        alignment=view_metrics.alignment(first, second),
        uniformity=view_metrics.uniformity(first),
        rank_me=metrics.rank_me(first),
        lidar=view_metrics.lidar(embeddings),
    )
    return Measured(quality, consistent, int(bad.any(axis=1).sum()), embeddings.shape[2])


def figures(measured: dict[str, Measured]) -> LabelFree:
    """Returns the figures of all encoders, and the candidate's leads over the others."""
    ours = measured[CANDIDATE].consistent
    leads = {role: significance.difference(ours, other.consistent) for role, other in measured.items()}
    return LabelFree(
        images=len(ours),
        views=_VIEWS,
        candidate=measured[CANDIDATE].quality,
        untrained=measured[UNTRAINED].quality,
        champion=measured[CHAMPION].quality if CHAMPION in measured else None,
        best_release=measured[BEST_RELEASE].quality if BEST_RELEASE in measured else None,
        over_untrained=leads[UNTRAINED],
        over_champion=leads.get(CHAMPION),
        over_best_release=leads.get(BEST_RELEASE),
    )


def verdict(
    settings: EvaluatorSettings,
    measured: dict[str, Measured],
    found: LabelFree,
    registered: dict[str, Champion],
    problems: dict[str, str],
) -> Verdict:
    """Judges the candidate without labels.

    Args:
        settings: The requirements.
        measured: The encoders by role.
        found: Their figures.
        registered: The registered versions to compare with, by role.
        problems: Why registered versions cannot be measured, by role.
    """
    checks = tuple(_checks(settings, measured, found, registered, problems))
    champion, best = registered.get(CHAMPION), registered.get(BEST_RELEASE)
    return Verdict(
        blessed=all(check.passed for check in checks),
        reasons=tuple(check.sentence for check in checks if not check.passed),
        checks=checks,
        champion=str(champion) if champion else None,
        champion_version=champion.version if champion else None,
        best_release=str(best) if best else None,
    )


def _checks(
    settings: EvaluatorSettings,
    measured: dict[str, Measured],
    found: LabelFree,
    registered: dict[str, Champion],
    problems: dict[str, str],
) -> Iterator[Check]:
    compare = settings.without_labels == "compare"
    if compare:
        yield _was_compared(found.images)
    for sentence in settings.refusals_without_labels():
        yield Check(name="needs_labels" if compare else "labels", passed=False, sentence=sentence)
    if measured[CANDIDATE].not_finite:
        yield gate.has_no_embeddings(measured[CANDIDATE].not_finite, "unlabelled images")
    most = min(found.images, measured[CANDIDATE].embedding_size)
    # A low rank is harmless if the few directions separate the classes, which nobody can tell without labels.
    if findings.collapsed(found.candidate.rank_me, found.untrained.rank_me, most, None):
        yield _has_collapsed(found, most)
    if not compare:
        return
    if found.images < settings.least_test_images:
        yield gate.has_too_few_images(found.images, settings.least_test_images, "unlabelled images")

    def rival(name: str, quality: ViewQuality, lead: Difference) -> gate.Rival:
        return gate.Rival(name, quality.neighbour_consistency, lead)

    measure = ("neighbour consistency", found.candidate.neighbour_consistency)
    if settings.beat_untrained:
        yield gate.beats(
            "beat_untrained", *measure, rival("an untrained encoder", found.untrained, found.over_untrained)
        )
    if settings.tolerance is None:
        return
    if CHAMPION in problems:
        yield gate.may_skip_champion(
            f"The champion {registered[CHAMPION]} cannot be compared ({problems[CHAMPION]})",
            settings.accept_baseline_reset,
        )
    for role, title, quality, lead in (
        (CHAMPION, "the champion", found.champion, found.over_champion),
        (BEST_RELEASE, "the best release so far,", found.best_release, found.over_best_release),
    ):
        if quality and lead:
            other = rival(f"{title} {registered[role]}", quality, lead)
            yield gate.keeps_up(role, *measure, other, settings.tolerance)


def _was_compared(images: int) -> Check:
    return Check(
        name="labels",
        passed=True,
        sentence=f"There are no labelled images, so the encoder was compared on {images:,} unlabelled ones "
        "(evaluator.without_labels: compare). This shows how well it recognises augmented pictures; whether it "
        "separates your classes is unknown without labels.",
    )


def _has_collapsed(found: LabelFree, most: int) -> Check:
    return Check(
        name="collapse",
        passed=False,
        sentence=f"The effective rank (RankMe) of the embeddings is only {found.candidate.rank_me:.1f}, and that of an "
        f"untrained encoder {found.untrained.rank_me:.1f}, of at most {most:,}: the encoder has collapsed or nearly "
        "collapsed.",
    )
