"""The plot of the page of all runs: the main figure of each encoder, with its interval, over time."""

from datetime import datetime, timedelta

import numpy as np
from markupsafe import Markup
from matplotlib import dates
from matplotlib.figure import Figure

from components.linear_probe_evaluator.artifact import MainFigure
from components.svg import COLOURS, drawn, style

_GREEN, _RED, _GREY = COLOURS[4], COLOURS[2], COLOURS[9]
# By the tone of a run's outcome: the label of the legend, the colour and the marker.
_SERIES = {
    "good": ("released", _GREEN, "o"),
    "bad": ("not blessed", _RED, "X"),
    "": ("registered, but not the champion", _GREY, "s"),
}


def draw(measure: str, points: list[tuple[datetime, MainFigure, str]]) -> Markup:
    """Draws a dot with an error bar for each run.

    Args:
        measure: What the figures measure.
        points: Start time, figure and tone of the outcome of each run, in the order of time.
    """
    with style():
        figure = Figure(figsize=(9, 2.8), layout="constrained")
        axes = figure.subplots()
        for tone, (label, colour, marker) in _SERIES.items():
            series = [(start, found) for start, found, of in points if of == tone]
            if not series:
                continue
            shares = np.array([found.share for _, found in series])
            low, high = np.transpose([found.interval for _, found in series])
            # Rounding can set a share just outside of its interval, and Matplotlib refuses negative lengths.
            errors = 100 * np.maximum(0, [shares - low, high - shares])
            axes.errorbar(
                [start for start, _ in series],  # type: ignore[arg-type]
                100 * shares,
                yerr=errors,
                fmt=marker,
                markersize=5,
                elinewidth=1,
                capsize=2.5,
                color=colour,
                label=label,
            )
        first, last = points[0][0], points[-1][0]
        margin = max((last - first) * 0.03, timedelta(minutes=30))
        axes.set_xlim(first - margin, last + margin)  # type: ignore[arg-type]
        locator = dates.AutoDateLocator(minticks=3, maxticks=8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        axes.set_ylabel(f"{measure}, %")
        axes.set_xlabel("start of the run (UTC)")
        figure.legend(loc="outside upper right", ncols=3)
        runs = "1 run" if len(points) == 1 else f"{len(points)} runs"
        return drawn(figure, f"{measure} of {runs} over time; the newest is {points[-1][1].share:.1%}", measure)
