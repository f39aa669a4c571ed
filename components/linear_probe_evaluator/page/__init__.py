"""Renders the evaluation as one HTML page that loads no script, font or picture from elsewhere.

The page begins with the verdict and its reasons, continues with accuracies and comparisons, and ends with details.
"""

import csv
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import tensorflow as tf
import yaml
from markupsafe import Markup

from components import pages
from components.linear_probe_evaluator import probes
from components.linear_probe_evaluator.artifact import (
    MOST_CLASSES_IN_MATRIX,
    NOT_RELEASED,
    Compared,
    Comparison,
    Interval,
    Metrics,
)
from components.linear_probe_evaluator.evaluation import Evaluation
from components.linear_probe_evaluator.page import copied, plots, retrieval
from components.linear_probe_evaluator.page.missing import Missing, made
from trainer import export

_MOST_CONFUSIONS = 20


def render(evaluation: Evaluation, model: str, run: str) -> str:
    """Renders the page.

    Args:
        evaluation: The evaluation to show.
        model: The directory of the candidate's SavedModel.
        run: Trainer's folder with `history.csv`.

    Returns:
        The page as HTML.
    """
    metrics, described = evaluation.metrics, export.describe(model)
    facts: dict[str, Any] = {
        "metrics": metrics,
        "described": described,
        "settings": yaml.safe_dump(described.settings.model_dump(mode="json"), sort_keys=False),
        "not_released": NOT_RELEASED,
        "curves": _curves(run),
    }
    if metrics.label_free:
        encoders = metrics.label_free.encoders().items()
        rows = [(name, quality.neighbour_consistency, quality.interval) for name, quality in encoders]
        facts["intervals"] = made("comparison of the encoders", lambda: plots.intervals(rows, "neighbour consistency"))
    candidate = evaluation.candidate
    if candidate:
        facts |= {
            "intervals": made("comparison of the encoders", lambda: plots.intervals(_compared(metrics))),
            "classes": _classes(metrics),
            "confusion": made("confusions of the classes", lambda: _confusion(evaluation)),
            "retrieval": made("nearest neighbours", lambda: retrieval.examples(evaluation)),
            "mistakes": made("confident mistakes", lambda: retrieval.mistakes(evaluation)),
            "map": made("map of the embeddings", lambda: plots.embedding_map(candidate.test, metrics.class_names)),
            "copies": made("images that occur in two splits", lambda: copied.pairs(evaluation)),
        }
    if metrics.references:
        facts |= beside(metrics.references)
    return _environment().get_template("report.html.j2").render(**facts)


def render_comparison(comparison: Comparison) -> str:
    """Renders a comparison of encoders as HTML."""
    template = _environment().get_template("comparison.html.j2")
    return template.render(comparison=comparison, **beside(comparison.models))


def beside(compared: tuple[Compared, ...]) -> dict[str, Any]:
    """Returns what `worth.html.j2` shows of encoders beside each other."""
    rows = [(row.name, row.points) for row in compared]
    return {
        "compared": compared,
        "label_curves": made("accuracies by number of labels", lambda: plots.label_curves(rows)),
    }


def _environment() -> jinja2.Environment:
    environment = pages.environment(Path(__file__).parent)
    environment.tests["missing"] = lambda part: isinstance(part, Missing)
    environment.filters["points"] = lambda share: f"{100 * share:+.1f}".replace("-", "\u2212")
    return environment


def _curves(run: str) -> list[Markup | Missing]:
    history = made("training curves", lambda: _history(run))
    if isinstance(history, Missing):
        return [history]
    drawn = [
        made(f"training curve “{metrics.title}”", partial(plots.curve, history, metrics)) for metrics in plots.CURVES
    ]
    return [curve for curve in drawn if curve is not None]


def _history(run: str) -> list[dict[str, float]]:
    path = f"{run}/history.csv"
    if not tf.io.gfile.exists(path):
        return []
    with tf.io.gfile.GFile(path) as file:
        return [
            {name: float(value) for name, value in row.items() if name and value}
            for row in csv.DictReader(file.read().splitlines())
        ]


def _compared(metrics: Metrics) -> list[tuple[str, float, Interval]]:
    """Returns name, probe accuracy and interval of the candidate, the champion and the untrained encoder."""
    rows = [
        ("this encoder", metrics.probe_accuracy, metrics.probe_interval),
        ("champion", metrics.champion_accuracy, metrics.champion_interval),
        ("untrained encoder", metrics.untrained_accuracy, metrics.untrained_interval),
    ]
    return [(name, accuracy, interval) for name, accuracy, interval in rows if accuracy is not None and interval]


def _classes(metrics: Metrics) -> list[tuple[str, int, float | None]]:
    """Returns name, number of test images and recall of each class, the lowest recall first."""
    rows = [(name, metrics.class_counts[name], recall) for name, recall in metrics.class_accuracy.items()]
    return sorted(rows, key=lambda row: (row[2] is None, row[2] or 0.0))


def _confusion(evaluation: Evaluation) -> dict[str, Any]:
    """Returns the confusion matrix, with one row per true class, or for many classes the most frequent confusions."""
    assert evaluation.candidate is not None
    names, candidate = evaluation.metrics.class_names, evaluation.candidate
    counts = probes.confusion(candidate.test.labels, candidate.score.predicted, len(names))
    if len(names) <= MOST_CLASSES_IN_MATRIX:
        rows = [
            (name, [(int(count), float(count / max(1, row.sum()))) for count in row])
            for name, row in zip(names, counts, strict=True)
        ]
        return {"matrix": {"names": names, "rows": rows}, "pairs": []}
    pairs = [(int(counts[i, j]), names[i], names[j]) for i in range(len(names)) for j in range(len(names)) if i != j]
    return {"matrix": None, "pairs": [pair for pair in sorted(pairs, reverse=True)[:_MOST_CONFUSIONS] if pair[0]]}
