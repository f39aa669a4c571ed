"""Alternating time measurements, and tables of their results."""

import math
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from rich.table import Table as RichTable

_Name = TypeVar("_Name", bound=Hashable)


def alternately(
    contenders: Mapping[_Name, Callable[[], object]], rounds: int, warm_up: int = 1, limit: float = math.inf
) -> dict[_Name, list[float]]:
    """Measures contenders in turns, so that other load on the machine affects all of them alike.

    Args:
        contenders: Functions by name. Each does the same amount of work at every call.
        rounds: The number of measured calls of each contender.
        limit: Seconds after which no further round begins. One round is always measured.
        warm_up: The number of earlier calls that are not measured, in which graphs are built and caches are filled.

    Returns:
        The seconds of each measured call, by the name of the contender.
    """
    seconds: dict[_Name, list[float]] = {name: [] for name in contenders}
    begin = time.perf_counter()
    for number in range(warm_up + rounds):
        if number > warm_up and time.perf_counter() - begin > limit:
            break
        for name, work in contenders.items():
            start = time.perf_counter()
            work()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


@dataclass(frozen=True)
class Figure:
    """One measured quantity.

    Attributes:
        what: The name of the quantity.
        median: The median over all rounds.
        lowest: The lowest value of all rounds.
        highest: The highest value of all rounds.
        unit: The unit of `median`, `lowest` and `highest`.
        ratio: The ratio of the median to the median of the table's first figure, or to the quantity that the note of
            the table names.
        note: A remark for the reader.
    """

    what: str
    median: float
    lowest: float
    highest: float
    unit: str
    ratio: float | None = None
    note: str = ""

    @classmethod
    def of(cls, what: str, samples: list[float], unit: str, ratio: float | None = None, note: str = "") -> "Figure":
        """Summarises the samples of all rounds."""
        return cls(what, statistics.median(samples), min(samples), max(samples), unit, ratio, note)


@dataclass
class Table:
    """The results of one benchmark: its title, its figures and a note below them."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    note: str = ""

    def rates(self, amount: float, seconds: Mapping[str, list[float]], unit: str) -> None:
        """Adds a rate for each contender, with its ratio to the rate of the first contender.

        Args:
            amount: The amount of work of each call.
            seconds: The seconds of each call, as returned by `alternately`.
            unit: The unit of `amount` per second.
        """
        base = statistics.median(next(iter(seconds.values())))
        for name, samples in seconds.items():
            ratio = base / statistics.median(samples)
            self.figures.append(Figure.of(name, [amount / sample for sample in samples], unit, ratio))

    def rendered(self) -> RichTable:
        """Renders the table for a terminal."""
        table = RichTable(title=self.title, title_justify="left", caption=self.note or None, caption_justify="left")
        for name in ("", "median", "lowest to highest", "unit", "ratio", ""):
            table.add_column(name, justify="right" if name in ("median", "ratio") else "left")
        for figure in self.figures:
            ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
            spread = "" if figure.lowest == figure.highest else f"{_short(figure.lowest)} to {_short(figure.highest)}"
            table.add_row(figure.what, _short(figure.median), spread, figure.unit, ratio, figure.note)
        return table


def _short(value: float) -> str:
    """Formats a number with three significant digits, or without decimals from 100 on."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
