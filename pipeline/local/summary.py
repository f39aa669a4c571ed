"""What a run came to: one JSON object, and the same as a table."""

from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.terminal.screen import write_line
from trainer.errors import DONE, NOT_BLESSED
from trainer.results import FIGURES_FILE, TrainingFigures

_EVALUATION = (
    *("probe_accuracy", "probe_interval", "knn_accuracy", "knn", "folds", "label_shares", "fine_tuned_accuracy"),
    *("random_encoder_accuracy", "over_random", "baseline", "baseline_accuracy", "over_baseline"),
    *("rank_me", "duplicates", "findings", "blessed", "reasons", "checks"),
)
_REGISTRY = ("name", "version", "uri", "alias", "changed", "standing_back", "page", "served")


def collect(run_id: str, lineage: Any, components: list[dict[str, Any]]) -> dict[str, Any]:
    """Gathers the summary of a finished run from its components' outputs.

    Args:
        run_id: of the run.
        lineage: a `pipeline.local.lineage.Lineage` of the run.
        components: `id`, `state` and `seconds` of each component, in order.
    """
    from components.image_example_gen import executor as image_example_gen
    from components.linear_probe_evaluator import executor as evaluator
    from components.registry_pusher import executor as pusher

    def output(component: str, key: str) -> str:
        return lineage.execution(component).outputs[key]

    described = image_example_gen.describe(output("ImageExampleGen", image_example_gen.EXAMPLES))
    with open(f"{output('Trainer', 'model_run')}/{FIGURES_FILE}", encoding="utf-8") as file:
        training = TrainingFigures.model_validate_json(file.read())
    metrics = evaluator.read_metrics(output("LinearProbeEvaluator", evaluator.EVALUATION))
    pushed = pusher.read_push(output("RegistryPusher", pusher.PUSHED))
    return {
        "run_id": run_id,
        "outcome": pushed["outcome"],
        "data": {name: described[name] for name in ("source", "fingerprint", "counts", "rejected")},
        "trainer": training.model_dump(),
        "evaluation": {name: metrics[name] for name in _EVALUATION},
        "registry": {name: pushed.get(name) for name in _REGISTRY},
        "components": components,
    }


def report_of(lineage: Any) -> str:
    """Path of the run's report, which the pusher leaves with the version in it."""
    from components.registry_pusher import executor as pusher

    return f"{lineage.execution('RegistryPusher').outputs[pusher.PUSHED]}/{pusher.REPORT}"


def exit_code(result: dict[str, Any]) -> int:
    """0 where the encoder was pushed or was there already, or nothing was new; 4 where it was not blessed."""
    if "nothing_new" in result:
        return DONE
    return DONE if result["evaluation"]["blessed"] else NOT_BLESSED


def show(result: dict[str, Any], workdir: str, console: Console) -> None:
    """Prints the summary and what to do next."""
    if "nothing_new" in result:
        write_line(console, result["nothing_new"])
        write_line(console, f"Next: nnclr models runs --workdir {workdir}")
        return
    data, training = result["data"], result["trainer"]
    evaluation, registry = result["evaluation"], result["registry"]
    table = Table(show_header=False, title=f"Run {result['run_id']}", title_justify="left", title_style="bold")
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    counts = ", ".join(f"{count:,} {split}" for split, count in data["counts"].items())
    table.add_row("Images", f"{counts} ({data['rejected']} rejected)")
    table.add_row(
        "Training",
        f"{training['steps']:,} steps in {training['seconds']:.0f} s, {training['images_per_second']:,.0f} images/s, "
        f"final loss {training['final_loss']:.3f}",
    )
    if evaluation["probe_accuracy"] is not None:
        low, high = evaluation["probe_interval"]
        table.add_row("Linear probe", f"{evaluation['probe_accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%})")
        table.add_row("kNN", f"{evaluation['knn_accuracy']:.1%}")
        table.add_row("Untrained encoder", f"{evaluation['random_encoder_accuracy']:.1%}")
    table.add_row("Champion before", _champion(evaluation))
    table.add_row("Verdict", "[green]blessed[/]" if evaluation["blessed"] else "[red]not blessed[/]")
    if registry["name"]:
        news = "registered" if registry["changed"] else "unchanged: the registry has it already"
        alias = f" as {registry['alias']}" if registry["alias"] else ""
        table.add_row("Registry", f"{registry['uri']}{alias} ({news})")
    if registry["served"]:
        table.add_row("Served from", registry["served"])
    console.print(table)
    lines = [
        *(f"Not blessed: {reason}" for reason in evaluation["reasons"]),
        *(f"Blessed: {check['sentence']}" for check in evaluation["checks"] if evaluation["blessed"]),
        *(f"Note: {finding}" for finding in evaluation["findings"]),
        *([f"Not the champion: {registry['standing_back']}"] if registry["standing_back"] else []),
        f"Report: {workdir}/runs/{result['run_id']}/report.html",
        _next_step(result, workdir),
    ]
    for line in lines:
        write_line(console, line)


def _champion(evaluation: dict[str, Any]) -> str:
    if evaluation["baseline"] is None:
        return "none"
    if evaluation["baseline_accuracy"] is None:
        return f"{evaluation['baseline']}, not comparable"
    lead = evaluation["over_baseline"]
    return (
        f"{evaluation['baseline_accuracy']:.1%} ({evaluation['baseline']}); {100 * lead['mean']:+.1f} points on the "
        f"same images (95 % interval {100 * lead['low']:+.1f} to {100 * lead['high']:+.1f})"
    )


def _next_step(result: dict[str, Any], workdir: str) -> str:
    if result["evaluation"]["blessed"]:
        return f"Next: nnclr models list --workdir {workdir}"
    return (
        "Nothing was pushed. Next: train longer (--set trainer.epochs=N), or look at the curves: "
        f"tensorboard --logdir {workdir}/artifacts/Trainer/model_run"
    )
