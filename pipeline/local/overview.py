"""The page of all runs of a working directory: `runs/index.html`, which needs no server and loads nothing."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from markupsafe import Markup

from components import artifact_files, pages
from components.linear_probe_evaluator.artifact import MainFigure
from components.model_registry import pipeline_runs
from pipeline.local import summary
from pipeline.local.workdir import Workdir

# What the page calls a run that wrote no summary: it was stopped or killed, or its files were damaged.
_UNFINISHED = "not finished"
# CSS classes of the report: green, red.
_TONES = {
    pipeline_runs.RELEASED: "good",
    pipeline_runs.UNCHANGED: "good",
    pipeline_runs.NOT_BLESSED: "bad",
    pipeline_runs.FAILED: "bad",
}
# The length of a reason that is shown without a click, in characters.
_SHORT = 160


class Row(NamedTuple):
    """What the page shows of a run.

    Attributes:
        run: Id of the run.
        started: Time of its start in UTC, if its id tells.
        outcome: Its outcome, see `pipeline_runs.PipelineRun`, or `not finished`.
        source: Path or URI of the images, if it is known.
        counts: Number of images by split.
        figure: The encoder's main figure, if it was measured.
        version: URI of the registered version, if there is one.
        reason: Why the run ended so.
        files: Links to the run's files, by name.
    """

    run: str
    started: datetime | None
    outcome: str
    source: str | None
    counts: dict[str, int]
    figure: MainFigure | None
    version: str | None
    reason: str
    files: dict[str, str]

    @property
    def tone(self) -> str:
        """The colour of the outcome, as a class of the page's style; empty for none."""
        return _TONES.get(self.outcome, "")


def write(workdir: Workdir) -> None:
    """Writes the page of all runs anew. Call it while the working directory is locked.

    Raises:
        OSError: If it cannot be written.
    """
    folders = [path for path in workdir.overview.parent.iterdir() if path.is_dir() and not path.name.startswith(".")]
    # The names of runs begin with their start times.
    rows = [_row(folder) for folder in sorted(folders, reverse=True)]
    artifact_files.write(str(workdir.overview), render(str(workdir.root.resolve()), rows).encode())


def render(workdir: str, rows: list[Row]) -> str:
    """Renders the page as HTML.

    Args:
        workdir: Path of the working directory.
        rows: The runs, the newest first.
    """
    template = pages.environment(Path(__file__).parent).get_template("overview.html.j2")
    return template.render(
        workdir=workdir,
        rows=rows,
        outcomes=Counter(row.outcome for row in rows).most_common(),
        plots=_plots(rows),
        short=_SHORT,
    )


def _row(folder: Path) -> Row:
    files = {
        name: f"{quote(folder.name)}/{file}"
        for name, file in (("report", "report.html"), ("log", "run.log"))
        if (folder / file).exists()
    }
    started = _started(folder.name)
    try:
        found = summary.read(folder)
    except FileNotFoundError:
        reason = "It was stopped or killed."
        return Row(folder.name, started, _UNFINISHED, None, {}, None, None, reason, files)
    except (OSError, artifact_files.DamagedFile):
        reason = "Its summary.json cannot be read."
        return Row(folder.name, started, _UNFINISHED, None, {}, None, None, reason, files)
    data = found.data
    return Row(
        run=folder.name,
        started=started,
        outcome=found.outcome,
        source=found.source or (data.source if data else None),
        counts=data.counts if data else {},
        figure=found.evaluation.main_figure if found.evaluation else None,
        version=found.registry.uri if found.registry else None,
        reason=found.reason,
        files=files,
    )


def _started(run: str) -> datetime | None:
    try:
        return datetime.strptime(run[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _plots(rows: list[Row]) -> list[tuple[str, Markup]]:
    """Draws the main figures over time, one plot for each measure; returns the measures and the plots."""
    measured: dict[str, list[tuple[datetime, MainFigure, str]]] = {}
    for row in reversed(rows):
        if row.started and row.figure:
            measured.setdefault(row.figure.measure, []).append((row.started, row.figure, row.tone))
    if not measured:
        return []
    # Matplotlib takes a second to import: a run that fails at once, in a new working directory, needs none.
    from pipeline.local import overview_plot

    return [(measure, overview_plot.draw(measure, points)) for measure, points in measured.items()]
