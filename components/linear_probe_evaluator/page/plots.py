"""Draws the plots of the report."""

from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from components.linear_probe_evaluator import projection
from components.linear_probe_evaluator.artifact import CurvePoint
from components.linear_probe_evaluator.probes import Labelled
from components.linear_probe_evaluator.projection import Projection
from components.svg import COLOURS, drawn, escaped, style

_MARKERS = "os^DvP<X>p"


class Metrics(NamedTuple):
    """Metrics of the training that share a plot: its title, the names of the metrics, and their unit."""

    title: str
    names: tuple[str, ...]
    unit: str


#: The plots of the training.
CURVES = (
    Metrics("Loss", ("c_loss",), "contrastive loss"),
    Metrics("Accuracy during training", ("c_acc", "val_p_acc", "knn_acc"), "share"),
    Metrics("Effective rank (RankMe)", ("rank_me",), "directions"),
    Metrics("Learning rate", ("learning_rate",), "per step"),
)
_LABELS = {"c_acc": "contrastive", "val_p_acc": "online probe", "knn_acc": "kNN"}

_MOST_POINTS = 1_000


def intervals(rows: list[tuple[str, float, tuple[float, float]]], measure: str = "linear probe accuracy") -> Markup:
    """Draws a dot with an error bar for each name, share and 95 % interval; the first row is on top."""
    with style():
        figure = Figure(figsize=(4.6, 0.42 * len(rows) + 0.7), layout="constrained")
        axes = figure.subplots()
        for row, (_, accuracy, (low, high)) in enumerate(rows):
            # Rounding can set an accuracy just outside of its interval, and Matplotlib refuses negative lengths.
            errors = 100 * np.maximum(0, [[accuracy - low], [high - accuracy]])
            axes.errorbar(100 * accuracy, -row, xerr=errors, fmt="o", capsize=4, color=COLOURS[row % len(COLOURS)])
        axes.set_yticks([-row for row in range(len(rows))], [escaped(name) for name, _, _ in rows])
        axes.set_ylim(0.5 - len(rows), 0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{measure}, % (95 % interval)")
        accuracies = ", ".join(f"{name} {100 * accuracy:.1f} %" for name, accuracy, _ in rows)
        return drawn(figure, f"{measure.capitalize()}: {accuracies}", "intervals")


def label_curves(rows: list[tuple[str, tuple[CurvePoint, ...]]]) -> Markup:
    """Draws the accuracy of each encoder by number of labels, with a band for its 95 % interval."""
    with style():
        figure = Figure(figsize=(4.8, 3.4), layout="constrained")
        axes = figure.subplots()
        counts = sorted({point.labels for _, points in rows for point in points})
        for number, (name, points) in enumerate(rows):
            colour, labels = COLOURS[number % len(COLOURS)], [point.labels for point in points]
            low, high = ([100 * getattr(point, end) for point in points] for end in ("low", "high"))
            accuracies = [100 * point.accuracy for point in points]
            marker = _MARKERS[number % len(_MARKERS)]
            axes.plot(labels, accuracies, marker=marker, markersize=5, color=colour, label=escaped(name), zorder=3)
            if len(points) > 1:
                axes.fill_between(labels, low, high, color=colour, alpha=0.14, linewidth=0)
            else:
                # A band over one number of labels would have no width.
                axes.vlines(labels, low, high, color=colour, alpha=0.5)
        axes.set_xscale("log")
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.minorticks_off()
        axes.set(xlabel="number of labels", ylabel="accuracy, %")
        figure.legend(loc="outside lower center", ncols=2)
        best = ", ".join(f"{name} {100 * points[-1].accuracy:.1f} %" for name, points in rows)
        return drawn(figure, f"Accuracy by number of labels; with {counts[-1]:,} labels: {best}", "label-curves")


def curve(history: list[dict[str, float]], metrics: Metrics) -> Markup | None:
    """Draws metrics over the training steps; None if the history contains none of them."""
    present = [name for name in metrics.names if any(name in row for row in history)]
    if not present:
        return None
    with style():
        figure = Figure(figsize=(3.6, 2.5), layout="constrained")
        axes = figure.subplots()
        for name in present:
            rows = [row for row in history if name in row]
            steps = [row["step"] for row in rows]
            # A line alone would not show a single measurement.
            axes.plot(steps, [row[name] for row in rows], ".-", label=_LABELS.get(name, name))
        axes.set(title=metrics.title, xlabel="step", ylabel=metrics.unit)
        if len(present) > 1:
            axes.legend()
        return drawn(figure, f"{metrics.title} over the training steps", metrics.title)


class EmbeddingMap(NamedTuple):
    """A plot of embeddings in two dimensions, and the projection that it shows."""

    drawing: Markup
    projection: Projection


def embedding_map(test: Labelled, names: list[str]) -> EmbeddingMap:
    """Draws the test embeddings in two dimensions, coloured by class.

    Args:
        test: The features and labels of the test split; at most 1,000 evenly spaced rows are drawn.
        names: The names of the classes.

    Raises:
        NoProjection: If the embeddings cannot be projected.
    """
    rows = np.unique(np.linspace(0, len(test.labels) - 1, _MOST_POINTS).astype(int))
    projected, labels = projection.project(test.features[rows]), test.labels[rows]
    with style():
        figure = Figure(figsize=(4.8, 4.8), layout="constrained")
        axes = figure.subplots()
        for label, name in enumerate(names):
            here = projected.points[labels == label]
            colour, marker = COLOURS[label % len(COLOURS)], _MARKERS[label // len(COLOURS) % len(_MARKERS)]
            axes.scatter(
                here[:, 0], here[:, 1], s=14, c=colour, marker=marker, alpha=0.8, linewidths=0, label=escaped(name)
            )
        axes.set_axis_off()
        if len(names) <= 3 * len(COLOURS):
            figure.legend(loc="outside lower center", markerscale=1.5, ncols=min(5, len(names)))
        return EmbeddingMap(drawn(figure, "Map of the test embeddings, coloured by class", "map"), projected)
