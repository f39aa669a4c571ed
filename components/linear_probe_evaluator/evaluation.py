"""Measures the candidate, an untrained twin and the champion in the same way on the same images."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from tfx.utils import path_utils

from components.champion_resolver import executor as champion_resolver
from components.champion_resolver.executor import Champion
from components.image_example_gen import executor as image_example_gen
from components.image_example_gen.transforms import split_directory
from components.linear_probe_evaluator import embedding, findings, gate, probes, protocols
from components.linear_probe_evaluator.config import EvaluatorSettings
from components.linear_probe_evaluator.embedding import Rows
from components.linear_probe_evaluator.probes import Labelled, LinearProbe, Score
from trainer import data, examples, export, fine_tuning, metrics

CANDIDATE, UNTRAINED, CHAMPION = "candidate", "untrained", "champion"


@dataclass(frozen=True)
class Places:
    """Artifacts and folders of an evaluation.

    Attributes:
        pretraining: ImageExampleGen's artifact that the encoder was trained on.
        labelled: the same with the labelled splits; often one and the same.
        model: the candidate's SavedModel.
        champion: ChampionResolver's artifact.
        aside: for intermediate results; every Beam worker can write there.
        memory: local, for memory maps; must outlive the evaluation.
    """

    pretraining: str
    labelled: str
    model: str
    champion: str
    aside: str
    memory: Path


@dataclass(frozen=True)
class Measured:
    """A model's features, the probe fitted on them and how that does on the test split."""

    train: Labelled
    test: Labelled
    probe: LinearProbe
    score: Score


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found out.

    Attributes:
        metrics: what `metrics.json` holds; accuracies are None where there are no labelled images.
        candidate: the candidate as measured, if there are labelled images.
        images: reads labelled images by split and row numbers: uint8 [n, height, width, 3].
    """

    metrics: dict[str, Any]
    candidate: Measured | None = None
    images: Callable[[str, np.ndarray], np.ndarray] | None = None


def evaluate(
    settings: EvaluatorSettings, places: Places, make_pipeline: Callable[[], Any] = beam.Pipeline
) -> Evaluation:
    """Measures and judges an exported encoder.

    Args:
        settings: the evaluator's.
        places: where everything lies.
        make_pipeline: makes the Beam pipeline that embeds the images.
    """
    pretraining, labelled = (image_example_gen.describe(place) for place in (places.pretraining, places.labelled))
    counts = {split: labelled["counts"][split] for split in (examples.TRAIN, examples.TEST)}
    counts[examples.UNLABELLED] = pretraining["counts"][examples.UNLABELLED]
    common = {
        "counts": counts,
        "data": pretraining["source"],
        "data_fingerprint": pretraining["fingerprint"],
        "labelled_data": labelled["source"],
        "labelled_fingerprint": labelled["fingerprint"],
    }
    if not counts[examples.TEST]:
        return Evaluation(_unmeasured() | common)
    size = (labelled["image_size"], labelled["image_size"])
    classes = labelled["class_names"]
    champion = champion_resolver.resolved(places.champion)
    models, problem = _models(settings, places, champion, size)
    folders = dict.fromkeys((examples.TRAIN, examples.TEST), places.labelled)
    folders[examples.UNLABELLED] = places.pretraining
    files = {split: data.matching_files([f"{split_directory(folders[split], split)}/*"]) for split in folders}
    with make_pipeline() as pipeline:
        _ = pipeline | embedding.EmbedImages(files, size, models, places.aside, sum(counts.values()))
    rows = {split: embedding.read_rows(places.aside, split) for split in files}

    measured = {model: _measure(settings, places, model, rows, len(classes)) for model in models}
    candidate = measured[CANDIDATE]
    verdict = _verdict(settings, measured, classes, champion, problem)
    figures = _figures(settings, candidate, rows[examples.TRAIN].folds, classes)
    if settings.fine_tuning:
        train, test = (data.labelled_pixels(files[split], size) for split in (examples.TRAIN, examples.TEST))
        figures["fine_tuned_accuracy"] = fine_tuning.accuracy(
            places.model, train, test, len(classes), seed=settings.seed, **settings.fine_tuning.model_dump()
        )
    found = findings.find(rows, candidate.test)

    def images(split: str, numbers: np.ndarray) -> np.ndarray:
        return embedding.images_at(files[split], rows[split].records[numbers], size)

    return Evaluation(verdict | figures | found | common, candidate, images)


def _models(
    settings: EvaluatorSettings, places: Places, champion: Champion | None, size: tuple[int, int]
) -> tuple[dict[str, str], str | None]:
    """SavedModels to measure by role, and why the champion is not among them, if so."""
    models = {CANDIDATE: places.model, UNTRAINED: f"{places.aside}/untrained-twin"}
    export.export_untrained_twin(places.model, models[UNTRAINED], settings.seed)
    if champion is None:
        return models, None
    model = path_utils.serving_model_path(places.champion)
    problem = champion.problem or _embeds_nothing(model, size)
    if problem:
        return models, f"The champion {champion} cannot be compared with ({problem})"
    return models | {CHAMPION: model}, None


def _embeds_nothing(model: str, size: tuple[int, int]) -> str | None:
    """Why a SavedModel gives no embeddings; None if it does."""
    try:
        found = export.Embeddings.of_export(model)(np.zeros([1, *size, 3], np.uint8))
    except (OSError, KeyError, ValueError, TypeError, tf.errors.OpError) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None if found.ndim == 2 else f"its embeddings have the shape {list(found.shape)}"


def _measure(settings: EvaluatorSettings, places: Places, model: str, rows: dict[str, Rows], classes: int) -> Measured:
    train, test = (
        Labelled(
            embedding.read_features(places.aside, model, split, places.memory / f"{model}-{split}"), rows[split].labels
        )
        for split in (examples.TRAIN, examples.TEST)
    )
    probe = probes.fit(train, classes, settings.seed)
    return Measured(train, test, probe, probes.score(probe, test, settings.seed))


def _verdict(
    settings: EvaluatorSettings,
    measured: dict[str, Measured],
    classes: list[str],
    resolved: Champion | None,
    problem: str | None,
) -> dict[str, Any]:
    score = measured[CANDIDATE].score

    def rival(role: str, name: str) -> gate.Rival:
        other = measured[role].score
        return gate.Rival(name, other.accuracy, probes.difference(score, other, settings.seed))

    untrained = rival(UNTRAINED, "an untrained encoder")
    champion = rival(CHAMPION, f"the champion {resolved}") if CHAMPION in measured else None
    recall = dict(zip(classes, score.recall, strict=True))
    checks = gate.checks(settings, score.accuracy, recall, untrained, champion, problem)
    return {
        "blessed": all(check.passed for check in checks),
        "reasons": [check.sentence for check in checks if not check.passed],
        "checks": [asdict(check) for check in checks],
        "probe_accuracy": score.accuracy,
        "probe_interval": score.interval,
        "class_accuracy": recall,
        "random_encoder_accuracy": untrained.accuracy,
        "random_encoder_interval": measured[UNTRAINED].score.interval,
        "over_random": asdict(untrained.lead),
        "baseline": str(resolved) if resolved else None,
        "baseline_version": resolved.version if resolved else None,
        "baseline_accuracy": champion.accuracy if champion else None,
        "baseline_interval": measured[CHAMPION].score.interval if champion else None,
        "over_baseline": asdict(champion.lead) if champion else None,
    }


def _figures(settings: EvaluatorSettings, candidate: Measured, folds: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """What is reported and judges nothing."""
    train, test = candidate.train, candidate.test
    knn = {
        k: metrics.knn_accuracy(train.features, train.labels, test.features, test.labels, k)
        for k in settings.neighbours
    }

    def over(subsets: list[np.ndarray]) -> dict[str, Any]:
        return asdict(protocols.repeated(train, test, subsets, len(classes), settings.seed))

    official = protocols.official_folds(folds)
    return {
        "probe_strength": candidate.probe.strength,
        "knn_accuracy": knn[settings.neighbours[0]],
        "knn": {str(k): accuracy for k, accuracy in knn.items()},
        "folds": over(official) if official else None,
        "label_shares": {
            str(share): over(protocols.draws(train.labels, share, settings.seed)) for share in settings.label_shares
        },
        "fine_tuned_accuracy": None,
        "class_counts": {name: int((test.labels == i).sum()) for i, name in enumerate(classes)},
        "embedding_size": int(test.features.shape[1]),
    }


def _unmeasured() -> dict[str, Any]:
    reason = (
        "There are no labelled images (train/ and test/), so nothing can be said about the encoder: name a labelled "
        "set with evaluator.data."
    )
    nothing = (
        *("probe_accuracy", "probe_interval", "probe_strength", "knn_accuracy", "folds", "fine_tuned_accuracy"),
        *("random_encoder_accuracy", "random_encoder_interval", "over_random"),
        *("baseline", "baseline_version", "baseline_accuracy", "baseline_interval", "over_baseline"),
        *("embedding_size", "rank_me", "duplicates"),
    )
    return {
        "blessed": False,
        "reasons": [reason],
        "checks": [{"passed": False, "sentence": reason}],
        **dict.fromkeys(nothing),
        **{name: {} for name in ("class_accuracy", "class_counts", "knn", "label_shares")},
        "findings": [],
    }
