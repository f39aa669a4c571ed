"""The command `nnclr compare`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.commands.options import (
    ENCODER_FORMS,
    ConfigOption,
    JsonOption,
    LabelledOption,
    PresetOption,
    SetOption,
    WorkdirOption,
)
from pipeline.local.workdir import DEFAULT_WORKDIR, Workdir
from pipeline.terminal import output
from pipeline.terminal.screen import Screen, write_line
from trainer.errors import BAD_DATA, DAMAGED, DONE, FAILED, WRONG_USAGE, exit_codes

if TYPE_CHECKING:
    from components.linear_probe_evaluator.artifact import Compared, Comparison, Lead

EPILOG = exit_codes(DONE, FAILED, WRONG_USAGE, BAD_DATA, DAMAGED)


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help=f"Encoders: {ENCODER_FORMS}. The others are compared with the first.",
        ),
    ],
    data: LabelledOption,
    out: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Folder for report.html and comparison.json; local, gs:// or s3://. By default none is written.",
        ),
    ] = None,
    directory: WorkdirOption = DEFAULT_WORKDIR,
    preset: PresetOption = None,
    config_file: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare encoders of any origin on labelled images: accuracy by number of labels, size and speed.

    Each encoder is given the images in its own size, and is measured by the same linear probe. A VERSION is a number or
    an alias in the registry of the working directory, or in the one of MLFLOW_TRACKING_URI. A NETWORK is one of
    keras.applications; without WEIGHTS, Keras downloads those of ImageNet. For its further settings, write a mapping as
    in evaluator.references.pretrained. The settings evaluator.label_shares, evaluator.neighbours and data apply.

    **Examples**

    `nnclr compare encoder --data pictures keras:EfficientNetB0`

    `nnclr compare models:/nnclr/champion models:/nnclr/3 --data pictures --output comparison`

    `nnclr compare encoder "{network: MobileNetV2, weights: m.h5, options: {alpha: 0.35}, size: 96}" --data pictures`
    """
    from pipeline import config
    from pipeline.local.paths import absolute
    from pipeline.terminal import imports

    settings = config.load(preset, config_file, overrides or [])
    with output.captured() as (_, stderr), Screen(Console(file=stderr)) as screen:
        screen.waiting("Loading Beam and TensorFlow")
        with imports.gc_paused():
            from pipeline.local import comparison
        found = comparison.compare(
            settings, models, absolute(data), Workdir(directory), absolute(out.rstrip("/")) if out else None
        )
    if as_json:
        output.print_json(found)
        return
    console = Console()
    console.print(_table(found.models))
    for line in (*_differences(found), *(f"Note: {note}" for note in found.notes)):
        write_line(console, escape(line))
    if out:
        write_line(console, escape(f"Report: {out.rstrip('/')}/report.html"))


def _table(models: "tuple[Compared, ...]") -> Table:
    counts = [f"{point.labels:,} labels" for point in models[0].points]
    table = Table("Encoder", *counts, "kNN", "Size", "Embeddings/s", "Images")
    for model in models:
        accuracies = [f"{point.accuracy:.1%}\n{point.low:.1%} to {point.high:.1%}" for point in model.points]
        table.add_row(
            escape(model.name),
            *accuracies,
            f"{model.knn_accuracy:.1%}",
            f"{model.size_bytes / 1e6:,.1f} MB",
            f"{model.images_per_second:,.0f}",
            f"{model.image_size[0]} x {model.image_size[1]}",
        )
    return table


def _points(lead: "Lead") -> str:
    return (
        f"{100 * lead.mean:+.1f} points ({100 * lead.low:+.1f} to {100 * lead.high:+.1f}) with {lead.labels:,} labels"
    )


def _differences(found: "Comparison") -> list[str]:
    first = found.models[0].name
    return [
        f"{name} compared with {first}: {'; '.join(_points(lead) for lead in leads)}"
        for name, leads in found.leads.items()
    ]
