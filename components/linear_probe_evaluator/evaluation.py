"""Measures the candidate, an untrained encoder and the champion in the same way on the same images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow as tf

from components.artifact_files import Content
from components.champion_resolver.artifact import Champion
from components.data_gate.artifact import DataCheck
from components.image_example_gen import artifact as examples_artifact
from components.image_example_gen.artifact import Dataset
from components.linear_probe_evaluator import (
    copies,
    embedding,
    findings,
    gate,
    label_free,
    predictions,
    probes,
    protocols,
    references,
    significance,
)
from components.linear_probe_evaluator.artifact import (
    MOST_CLASSES_IN_MATRIX,
    Data,
    Findings,
    Metrics,
    ProbeWeights,
    Repeated,
    Reported,
    Verdict,
    WithoutLabels,
    Worth,
)
from components.linear_probe_evaluator.config import EvaluatorSettings
from components.linear_probe_evaluator.copies import Copy
from components.linear_probe_evaluator.embedding import Encoder, Rows, Size
from components.linear_probe_evaluator.probes import Labelled, LinearProbe, Score
from components.linear_probe_evaluator.references import Images, References, Subject
from components.linear_probe_evaluator.roles import BEST_RELEASE, CANDIDATE, CHAMPION, UNTRAINED
from trainer import data, export, fine_tuning, metrics, splits
from trainer.errors import DataError, SettingsError

_TITLES = {
    CANDIDATE: "encoder",
    UNTRAINED: "untrained encoder",
    CHAMPION: "champion",
    BEST_RELEASE: "best release so far",
}


class RegisteredModel(NamedTuple):
    """A registered version, and the path or URI of its SavedModel."""

    version: Champion
    model: str


@dataclass(frozen=True)
class Inputs:
    """Artifacts and folders of an evaluation, each a path or URI.

    Attributes:
        pretraining: ImageExampleGen's artifact that the encoder was trained on.
        labelled: ImageExampleGen's artifact with the labelled splits; often the same one.
        model: The candidate's SavedModel.
        champion: The champion, if there is one.
        best_release: The best release so far, if it is not the champion.
        scratch: Folder for intermediate results, which every Beam worker can write to.
        local_scratch: Local folder for memory maps, which must outlive the evaluation.
        data_checks: DataGate's verdicts on the images.
    """

    pretraining: str
    labelled: str
    model: str
    champion: RegisteredModel | None
    scratch: str
    local_scratch: Path
    best_release: RegisteredModel | None = None
    data_checks: tuple[DataCheck, ...] = ()

    @property
    def registered(self) -> dict[str, RegisteredModel]:
        """The registered versions to compare with, by role."""
        roles = {CHAMPION: self.champion, BEST_RELEASE: self.best_release}
        return {role: registered for role, registered in roles.items() if registered}


@dataclass(frozen=True)
class Measured:
    """A model's features, the probe that was fitted on them, and the probe's score on the test split.

    Attributes:
        train: Features and labels of the train split.
        test: Features and labels of the test split.
        without_embedding: Number of labelled images whose embedding is not finite; their features are zeros.
        probe: The probe that was fitted on `train`.
        score: The probe's score on `test`.
    """

    train: Labelled
    test: Labelled
    without_embedding: int
    probe: LinearProbe
    score: Score


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        metrics: All figures, and the verdict.
        candidate: The measured candidate, if there are labelled images.
        images: Reads images by split and row numbers: uint8 [n, height, width, 3].
        predictions: The candidate's predictions as a Parquet file, see `predictions.parquet`.
        copies: A few images that occur, or may occur, in two splits.
    """

    metrics: Metrics
    candidate: Measured | None = None
    images: Callable[[str, np.ndarray], np.ndarray] | None = None
    predictions: bytes | None = None
    copies: tuple[Copy, ...] = ()

    @property
    def probe(self) -> ProbeWeights | None:
        """The candidate's probe, if there are labelled images."""
        return ProbeWeights(self.candidate.probe.weights, self.candidate.probe.bias) if self.candidate else None


def evaluate(
    settings: EvaluatorSettings, inputs: Inputs, make_pipeline: Callable[[], Any] = beam.Pipeline
) -> Evaluation:
    """Measures and judges an exported encoder.

    Args:
        settings: What is measured, and what the encoder must reach.
        inputs: Artifacts and folders.
        make_pipeline: Makes the Beam pipeline that embeds the images.

    Raises:
        DataError: If there is nothing to measure the encoder on.
    """
    pretraining, labelled = examples_artifact.read(inputs.pretraining), examples_artifact.read(inputs.labelled)
    counts = {split: labelled.counts[split] for split in (splits.TRAIN, splits.TEST)}
    counts[splits.UNLABELLED] = pretraining.counts[splits.UNLABELLED]
    described = Data(
        counts=counts,
        left_out=pretraining.all_left_out(),
        data=pretraining.source,
        data_fingerprint=pretraining.fingerprint,
        labelled_data=labelled.source,
        labelled_fingerprint=labelled.fingerprint,
        data_checks=inputs.data_checks,
    )
    if not counts[splits.TEST]:
        return Evaluation(Metrics.of(described, *_without_labels(settings, inputs, pretraining)))
    size, classes = (labelled.image_size, labelled.image_size), list(labelled.class_names)
    models, problems = _models(settings, inputs, size)
    models |= references.exported(settings, inputs.scratch)
    directories = dict.fromkeys((splits.TRAIN, splits.TEST), inputs.labelled)
    directories[splits.UNLABELLED] = inputs.pretraining
    files = {
        split: data.matching_files([f"{examples_artifact.split_directory(directory, split)}/*"])
        for split, directory in directories.items()
    }
    with make_pipeline() as pipeline:
        _ = pipeline | embedding.EmbedImages(files, size, models, inputs.scratch, sum(counts.values()))
    rows = {split: embedding.read_rows(inputs.scratch, split) for split in files}

    measured = {
        model: measure(settings.seed, inputs.scratch, inputs.local_scratch, model, rows, len(classes))
        for model in models
    }
    for role in (CHAMPION, BEST_RELEASE):
        if role in measured and measured[role].without_embedding:
            problems[role] = f"it gives no finite embedding of {measured.pop(role).without_embedding:,} labelled images"
    candidate = measured[CANDIDATE]
    repeated = copies.find(rows)
    names = references.roles(settings)
    without_embedding = {role: model.without_embedding for role, model in measured.items()}
    beside = _beside_references(settings, Images(files, rows, len(classes)), models, measured)
    verdict = _verdict(settings, inputs, measured, classes, problems, beside)
    figures = Metrics.of(
        described,
        verdict,
        _reported(settings, inputs, candidate, rows[splits.TRAIN].folds, classes, files, size),
        beside.figures,
        findings.find(
            repeated,
            candidate.test.features,
            measured[UNTRAINED].test.features,
            verdict.over_untrained,
            (
                *_unconverged(measured, _TITLES | names),
                *_uncompared(inputs, problems),
                *references.doubts(names, models, without_embedding, labelled.stored_size or labelled.image_size),
            ),
            inputs.data_checks,
        ),
    )

    def images(split: str, numbers: np.ndarray) -> np.ndarray:
        return embedding.images_at(files[split], rows[split].records[numbers], size)

    table = predictions.parquet(
        candidate.train,
        candidate.test,
        candidate.score,
        classes,
        *(rows[split].ids for split in (splits.TRAIN, splits.TEST)),
    )
    return Evaluation(figures, candidate, images, table, repeated.examples)


def _models(settings: EvaluatorSettings, inputs: Inputs, size: Size) -> tuple[dict[str, Encoder], dict[str, str]]:
    """Returns the encoders to measure by role, and why the others cannot be measured.

    Args:
        settings: The settings, for the seed of the untrained encoder.
        inputs: The candidate and the registered versions.
        size: The size of the images for a registered version that does not tell its own.
    """
    untrained = f"{inputs.scratch}/untrained-twin"
    export.export_untrained_twin(inputs.model, untrained, settings.seed)
    own_size = export.describe(inputs.model).image_size
    models = {CANDIDATE: Encoder(inputs.model, own_size), UNTRAINED: Encoder(untrained, own_size)}
    problems = {}
    for role, registered in inputs.registered.items():
        encoder = Encoder(registered.model, export.image_size(registered.model) or size)
        problem = registered.version.problem or _embedding_problem(encoder)
        if problem:
            problems[role] = problem
        else:
            models[role] = encoder
    return models, problems


def _embedding_problem(encoder: Encoder) -> str | None:
    """Returns why a SavedModel gives no embeddings; None if it does."""
    try:
        embeddings = export.Embeddings.of_export(encoder.directory)(np.zeros([1, *encoder.size, 3], np.uint8))
    except SettingsError as error:
        return str(error)
    except (OSError, KeyError, ValueError, TypeError, tf.errors.OpError) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None if embeddings.ndim == 2 else f"its embeddings have the shape {list(embeddings.shape)}"


def measure(seed: int, scratch: str, local_scratch: Path, model: str, rows: dict[str, Rows], classes: int) -> Measured:
    """Fits and scores the linear probe of a model whose embeddings were written.

    Args:
        seed: Seed of the cross-validation.
        scratch: Folder that `EmbedImages` wrote to.
        local_scratch: Local folder for memory maps.
        model: Name of the model.
        rows: Labels of the images by split.
        classes: Number of classes.
    """
    read = {
        split: embedding.read_features(scratch, model, split, local_scratch / f"{model}-{split}")
        for split in (splits.TRAIN, splits.TEST)
    }
    train, test = (Labelled(features.values, rows[split].labels) for split, features in read.items())
    probe = probes.fit(train, classes, seed)
    without_embedding = sum(features.not_finite for features in read.values())
    return Measured(train, test, without_embedding, probe, probes.score(probe, test))


def _beside_references(
    settings: EvaluatorSettings, images: Images, models: dict[str, Encoder], measured: dict[str, Measured]
) -> References:
    """Measures the candidate beside its references, if there are any."""
    if not settings.references.names:
        return References(Worth(), {})
    names = {CANDIDATE: references.THIS, UNTRAINED: "untrained"} | references.roles(settings)
    subjects = [
        Subject(
            names.get(role, role),
            models[role],
            model.train,
            model.test,
            model.score.hits,
            0.0 if role == UNTRAINED else export.training_seconds(models[role].directory),
        )
        for role, model in measured.items()
        if role != BEST_RELEASE
    ]
    return references.measure(settings, images, subjects)


def _unconverged(measured: dict[str, Measured], titles: dict[str, str]) -> list[str]:
    return [
        f"The probe of the {titles[role]} did not converge within {probes.MOST_ITERATIONS:,} iterations, so its "
        "accuracy may be too low."
        for role, model in measured.items()
        if not model.probe.converged
    ]


def _uncompared(inputs: Inputs, problems: dict[str, str]) -> list[str]:
    """Says that the best release is not compared; the champion has a check of its own."""
    return [
        f"The best release so far, {inputs.registered[role].version}, cannot be compared ({problem}): whether losses "
        "add up over the releases is unknown."
        for role, problem in problems.items()
        if role == BEST_RELEASE
    ]


def _verdict(
    settings: EvaluatorSettings,
    inputs: Inputs,
    measured: dict[str, Measured],
    classes: list[str],
    problems: dict[str, str],
    beside: References,
) -> Verdict:
    """Judges the candidate."""
    score = measured[CANDIDATE].score
    champion, best = (inputs.registered.get(role) for role in (CHAMPION, BEST_RELEASE))

    def rival(role: str, name: str) -> gate.Rival | None:
        if role not in measured:
            return None
        other = measured[role].score
        return gate.Rival(name, other.accuracy, significance.difference(score.hits, other.hits))

    untrained = rival(UNTRAINED, "an untrained encoder")
    assert untrained
    compared = rival(CHAMPION, f"the champion {champion.version}") if champion else None
    best_release = rival(BEST_RELEASE, f"the best release so far, {best.version}") if best else None
    recall = dict(zip(classes, score.recall, strict=True))
    candidate = gate.Candidate(
        accuracy=score.accuracy,
        recall=recall,
        images=len(score.hits),
        untrained=untrained,
        champion=compared,
        champion_problem=f"The champion {champion.version} cannot be compared ({problems[CHAMPION]})"
        if champion and CHAMPION in problems
        else None,
        best_release=best_release,
        must_beat=tuple(
            gate.Rival(f"the reference {name}", float(hits.mean()), significance.difference(score.hits, hits))
            for name, hits in beside.hits.items()
            if name in settings.must_beat
        ),
        without_embedding=measured[CANDIDATE].without_embedding,
    )
    checks = gate.checks(settings, candidate)
    return Verdict(
        blessed=all(check.passed for check in checks),
        reasons=tuple(check.sentence for check in checks if not check.passed),
        checks=tuple(checks),
        probe_accuracy=score.accuracy,
        probe_interval=score.interval,
        class_accuracy=recall,
        untrained_accuracy=untrained.accuracy,
        untrained_interval=measured[UNTRAINED].score.interval,
        over_untrained=untrained.lead,
        champion=str(champion.version) if champion else None,
        champion_version=champion.version.version if champion else None,
        champion_accuracy=compared.accuracy if compared else None,
        champion_interval=measured[CHAMPION].score.interval if compared else None,
        over_champion=compared.lead if compared else None,
        best_release=str(best.version) if best else None,
        best_release_accuracy=best_release.accuracy if best_release else None,
        over_best_release=best_release.lead if best_release else None,
    )


def _reported(
    settings: EvaluatorSettings,
    inputs: Inputs,
    candidate: Measured,
    folds: np.ndarray,
    classes: list[str],
    files: dict[str, list[str]],
    size: tuple[int, int],
) -> Reported:
    """Measures what is reported without influence on the verdict."""
    train, test = candidate.train, candidate.test
    knn = {
        k: metrics.knn_accuracy(train.features, train.labels, test.features, test.labels, k)
        for k in settings.neighbours
    }

    def repeated(subsets: list[np.ndarray]) -> Repeated:
        return protocols.repeated(train, test, subsets, len(classes), settings.seed)

    official = protocols.official_folds(folds)
    fine_tuned = None
    if settings.fine_tuning:
        train_pixels = data.labelled_pixels(files[splits.TRAIN], size)
        test_pixels = data.labelled_pixels(files[splits.TEST], size)
        fine_tuned = fine_tuning.accuracy(
            inputs.model,
            train_pixels,
            test_pixels,
            len(classes),
            seed=settings.seed,
            **settings.fine_tuning.model_dump(),
        )
    return Reported(
        probe_strength=candidate.probe.strength,
        class_counts={name: int((test.labels == i).sum()) for i, name in enumerate(classes)},
        confusion=_small_matrix(probes.confusion(test.labels, candidate.score.predicted, len(classes))),
        knn_accuracy=knn[settings.neighbours[0]],
        knn=knn,
        folds=repeated(official) if official else None,
        label_shares={
            share: repeated(protocols.draws(train.labels, share, settings.seed)) for share in settings.label_shares
        },
        calibration_error=candidate.score.calibration_error,
        fine_tuned_accuracy=fine_tuned,
        embedding_size=int(test.features.shape[1]),
    )


def _small_matrix(counts: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Returns a confusion matrix, int64 [classes, classes], as tuples; empty if it is too large to read."""
    if len(counts) > MOST_CLASSES_IN_MATRIX:
        return ()
    return tuple(tuple(row) for row in counts.tolist())


def _without_labels(settings: EvaluatorSettings, inputs: Inputs, pretraining: Dataset) -> tuple[Content, ...]:
    """Measures and judges the candidate on unlabelled images; returns the groups of figures."""
    size, count = (pretraining.image_size, pretraining.image_size), pretraining.counts[splits.UNLABELLED]
    if count < 2:
        raise DataError(
            f"{inputs.pretraining} has no labelled images and fewer than two unlabelled ones, so there is nothing to "
            "measure the encoder on: name other images."
        )
    models, problems = _models(settings, inputs, size)
    directory = examples_artifact.split_directory(inputs.pretraining, splits.UNLABELLED)
    directories = {role: encoder.directory for role, encoder in models.items()}
    measured = label_free.measure(directories, data.matching_files([f"{directory}/*"]), count, settings.seed)
    for role in (CHAMPION, BEST_RELEASE):
        if role in measured and measured[role].not_finite:
            problems[role] = f"it gives no finite embedding of {measured.pop(role).not_finite:,} unlabelled images"
    found = label_free.figures(measured)
    registered = {role: registered.version for role, registered in inputs.registered.items()}
    sentences = [*findings.of_data(inputs.data_checks).findings, *_uncompared(inputs, problems), label_free.BIAS]
    return (
        label_free.verdict(settings, measured, found, registered, problems),
        WithoutLabels(label_free=found),
        Reported(embedding_size=measured[CANDIDATE].embedding_size),
        Findings(findings=tuple(sentences)),
    )
