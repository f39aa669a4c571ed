"""Measures contenders alternately, so that whatever else the machine does hits all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table as RichTable


def alternately(
    contenders: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds that each contender took in each round.

    Args:
        contenders: each does the same amount of work at every call.
        rounds: that count.
        warm_up: rounds before, which don't: graphs are built, and caches filled.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(warm_up + rounds):
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
        what: was measured.
        median: over the rounds.
        lowest: of the rounds.
        highest: of the rounds.
        unit: of the three.
        ratio: of the median to that of the table's first figure of the same unit, or of what `note` names.
        note: what a reader must know.
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
        """From the samples of all rounds."""
        return cls(what, statistics.median(samples), min(samples), max(samples), unit, ratio, note)


@dataclass
class Table:
    """What one benchmark found."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    note: str = ""

    def rates(self, amount: float, seconds: Mapping[str, list[float]], unit: str) -> None:
        """Adds a rate a contender, in `unit`, and its ratio to the first one's.

        Args:
            amount: of work that each call did.
            seconds: as `alternately` gives them.
            unit: of amount / seconds.
        """
        base = statistics.median(next(iter(seconds.values())))
        for name, samples in seconds.items():
            ratio = base / statistics.median(samples)
            self.figures.append(Figure.of(name, [amount / sample for sample in samples], unit, ratio))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def rendered(self) -> RichTable:
        """For a terminal."""
        table = RichTable(title=self.title, title_justify="left", caption=self.note or None, caption_justify="left")
        for name in ("", "median", "lowest to highest", "unit", "ratio", ""):
            table.add_column(name, justify="right" if name in ("median", "ratio") else "left")
        for figure in self.figures:
            ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
            spread = "" if figure.lowest == figure.highest else f"{_short(figure.lowest)} to {_short(figure.highest)}"
            table.add_row(figure.what, _short(figure.median), spread, figure.unit, ratio, figure.note)
        return table


def _short(value: float) -> str:
    """Three significant digits, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
