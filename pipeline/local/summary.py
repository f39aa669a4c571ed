"""The summary of a run: one JSON object, and the same as a table."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components import artifact_files
from components.artifact_files import Content
from components.data_gate.artifact import DataCheck
from components.image_example_gen import artifact as examples_artifact
from components.image_example_gen.artifact import Dataset
from components.linear_probe_evaluator import artifact as evaluation_artifact
from components.linear_probe_evaluator.artifact import LabelFree, Metrics
from components.registry_pusher import artifact as push_artifact
from components.registry_pusher.artifact import Push
from pipeline.local import advice
from pipeline.terminal.screen import write_line
from trainer.errors import DONE, NOT_BLESSED
from trainer.results import FIGURES_FILE, TrainingFigures

if TYPE_CHECKING:
    from pipeline.local.lineage import Lineage

#: States of a component.
COMPLETE, CACHED, FAILED, RUNNING = "done", "cached", "failed", "running"

_FILE = "summary.json"


class ComponentSummary(Content):
    """One component of a run.

    Attributes:
        id: The component's id.
        state: `done`, `cached` or `failed`.
        seconds: Time that the component took.
    """

    id: str
    state: str
    seconds: float


class Summary(Content):
    """What a run did. The fields from `data` on are None if the run failed or had nothing new to train on.

    Attributes:
        run_id: The run's id.
        outcome: Outcome of the run, see `model_registry.pipeline_runs.PipelineRun`.
        source: Path or URI of the images; None in summaries of nnclr 0.1.0.
        nothing_new: Why nothing was trained, if that is so.
        failure: Why the run failed, if it did.
        anomalies: What DataGate found wrong with the images, a sentence for each finding.
        data: The ingested images.
        trainer: Figures of the training.
        evaluation: The encoder's figures, and the verdict.
        registry: What became of the encoder.
        components: The components in the order in which they ran.
    """

    run_id: str
    outcome: str
    source: str | None = None
    nothing_new: str | None = None
    failure: str | None = None
    anomalies: tuple[str, ...] = ()
    data: Dataset | None = None
    trainer: TrainingFigures | None = None
    evaluation: Metrics | None = None
    registry: Push | None = None
    components: tuple[ComponentSummary, ...] = ()

    @property
    def reason(self) -> str:
        """Why the run ended as it did, in sentences; empty if nothing went wrong."""
        reasons = " ".join(self.evaluation.reasons) if self.evaluation else ""
        not_promoted = self.registry.not_promoted if self.registry else None
        return self.failure or self.nothing_new or reasons or not_promoted or ""


def collect(run_id: str, lineage: "Lineage", components: list[ComponentSummary]) -> Summary:
    """Gathers the summary of a run from the artifacts of its components.

    Args:
        run_id: The run's id.
        lineage: The run's executions.
        components: The run's components.
    """
    figures = f"{lineage.output('Trainer', 'model_run')}/{FIGURES_FILE}"
    push = push_artifact.read(lineage.output("RegistryPusher", push_artifact.PUSHED))
    data = examples_artifact.read(lineage.output("ImageExampleGen", examples_artifact.EXAMPLES))
    evaluation = evaluation_artifact.read_metrics(
        lineage.output("LinearProbeEvaluator", evaluation_artifact.EVALUATION)
    )
    return Summary(
        run_id=run_id,
        outcome=push.outcome,
        source=data.source,
        anomalies=evaluation.anomalies,
        data=data,
        trainer=artifact_files.read_json(figures, TrainingFigures),
        evaluation=evaluation,
        registry=push,
        components=tuple(components),
    )


def write(directory: Path, summary: Summary) -> None:
    """Writes `summary.json` into the folder of a run."""
    artifact_files.write_json(str(directory / _FILE), summary)


def read(directory: Path) -> Summary:
    """Reads `summary.json` in the folder of a run.

    Raises:
        FileNotFoundError: If the run did not end.
        DamagedFile: If the file is damaged.
    """
    return artifact_files.read_json(str(directory / _FILE), Summary)


def report_path(lineage: "Lineage") -> str:
    """Returns the path of the run's report, which RegistryPusher completes with the registered version."""
    return push_artifact.report_path(lineage.output("RegistryPusher", push_artifact.PUSHED))


def exit_code(summary: Summary) -> int:
    """Returns 0 if the encoder was registered or was in the registry, or nothing was new; 4 if it was not blessed."""
    return NOT_BLESSED if summary.evaluation and not summary.evaluation.blessed else DONE


def show(summary: Summary, workdir: str, console: Console) -> None:
    """Prints the summary and the next step.

    Args:
        summary: The run's summary.
        workdir: The working directory, for the next step.
        console: Console to print to.
    """
    data, training, evaluation, registry = summary.data, summary.trainer, summary.evaluation, summary.registry
    if data is None or training is None or evaluation is None or registry is None:
        write_line(console, summary.nothing_new or summary.outcome)
        write_line(console, f"All runs: {workdir}/runs/index.html")
        write_line(console, f"Next: nnclr models runs --workdir {workdir}")
        return
    table = Table(show_header=False, title=f"Run {summary.run_id}", title_justify="left", title_style="bold")
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    counts = ", ".join(f"{count:,} {split}" for split, count in data.counts.items())
    table.add_row("Images", f"{counts} ({data.rejected} rejected)")
    if data.left_out:
        table.add_row("Left out", "; ".join(f"{count:,} {reason}" for reason, count in data.left_out.items()))
    if evaluation.data_checks:
        table.add_row("Data checks", _data_checks(evaluation.data_checks))
    table.add_row(
        "Training",
        f"{training.steps:,} steps in {training.seconds:.0f} s, {training.images_per_second:,.0f} images/s, "
        f"final loss {training.final_loss:.3f}",
    )
    for row in evaluation_rows(evaluation):
        table.add_row(*row)
    table.add_row("Champion before", _champion(evaluation))
    table.add_row("Verdict", "[green]blessed[/]" if evaluation.blessed else "[red]not blessed[/]")
    if registry.pushed:
        news = "registered" if registry.changed else "unchanged: the registry has it already"
        alias = f" as {registry.alias}" if registry.alias else ""
        table.add_row("Registry", f"{registry.uri}{alias} ({news})")
    if registry.served:
        table.add_row("Served from", registry.served)
    console.print(table)
    lines = [
        *(f"Not blessed: {reason}" for reason in evaluation.reasons),
        *(f"Blessed: {check.sentence}" for check in evaluation.checks if evaluation.blessed),
        *(f"Note: {finding}" for finding in evaluation.findings),
        *([f"Not promoted: {registry.not_promoted}"] if registry.not_promoted else []),
        f"Report: {workdir}/runs/{summary.run_id}/report.html",
        f"All runs: {workdir}/runs/index.html",
        advice.next_step(evaluation, registry.promotion, workdir),
    ]
    for line in lines:
        # The names of classes and folders may look like markup.
        write_line(console, escape(line))


def evaluation_rows(evaluation: Metrics) -> list[tuple[str, str]]:
    """Returns names and texts of the main figures; none if nothing was measured."""
    if evaluation.label_free:
        return _rows_without_labels(evaluation.label_free)
    if evaluation.probe_interval is None:
        return []
    low, high = evaluation.probe_interval
    return [
        ("Linear probe", f"{evaluation.probe_accuracy:.1%} (95 % interval {low:.1%} to {high:.1%})"),
        ("kNN", f"{evaluation.knn_accuracy:.1%}"),
        ("Untrained encoder", f"{evaluation.untrained_accuracy:.1%}"),
        *([("Was it worth it?", evaluation.worth)] if evaluation.worth else []),
    ]


def _rows_without_labels(found: LabelFree) -> list[tuple[str, str]]:
    ours, untrained, (low, high) = found.candidate, found.untrained, found.candidate.interval
    return [
        ("Images measured", f"{found.images:,} without labels, {found.views} views of each"),
        ("Neighbour consistency", f"{ours.neighbour_consistency:.1%} (95 % interval {low:.1%} to {high:.1%})"),
        ("Effective rank", f"LiDAR {ours.lidar:.1f}, RankMe {ours.rank_me:.1f}"),
        (
            "Untrained encoder",
            f"{untrained.neighbour_consistency:.1%}; LiDAR {untrained.lidar:.1f}, RankMe {untrained.rank_me:.1f}",
        ),
    ]


def _data_checks(checks: tuple[DataCheck, ...]) -> str:
    warned = [check.name for check in checks if not check.passed]
    if not warned:
        return f"all {len(checks)} passed"
    return f"{len(checks) - len(warned)} of {len(checks)} passed; warnings of {', '.join(warned)}"


def _champion(evaluation: Metrics) -> str:
    if evaluation.champion is None:
        return "none"
    found = evaluation.label_free
    lead = found.over_champion if found else evaluation.over_champion
    if lead is None:
        return f"{evaluation.champion}, not comparable"
    share = found.champion.neighbour_consistency if found and found.champion else evaluation.champion_accuracy
    return (
        f"{share:.1%} ({evaluation.champion}); {100 * lead.mean:+.1f} points on the same images "
        f"(95 % interval {100 * lead.low:+.1f} to {100 * lead.high:+.1f})"
    )
