"""The command `nnclr`, assembled from the modules of `pipeline.commands`. Nothing heavy is imported here."""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.commands import (
    bench,
    classify,
    compare,
    curate,
    data,
    doctor,
    embed,
    evaluate,
    ingest,
    init,
    kubeflow,
    models,
    presets,
    prune,
    run,
    schedule,
    search,
    settings,
    suggest,
)
from pipeline.terminal import process
from pipeline.terminal.screen import write_line
from trainer import failures
from trainer.errors import exit_codes

app = typer.Typer(
    name="nnclr",
    help="Pretrain image encoders without labels by NNCLR, evaluate them, and release good ones to a model registry."
    "\n\nStart with: nnclr run --preset sample",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("run", epilog=exit_codes())(run.run)
app.command("init")(init.init)
app.command("settings")(settings.settings)
app.command("ingest")(ingest.ingest)
app.command("evaluate", epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command("compare", epilog=compare.EPILOG)(compare.compare)
app.command("embed", epilog=embed.EPILOG)(embed.embed)
app.command("search", epilog=search.EPILOG)(search.search)
app.command("duplicates", epilog=curate.EPILOG)(curate.duplicates)
app.command("leaks", epilog=curate.EPILOG)(curate.leaks)
app.command("outliers", epilog=curate.EPILOG)(curate.outliers)
app.command("classify", epilog=classify.EPILOG)(classify.classify)
app.command("suggest", epilog=suggest.EPILOG)(suggest.suggest)
app.command("compile")(kubeflow.compile_for_kubeflow)
app.command("submit")(kubeflow.submit)
app.command("runs")(kubeflow.list_runs)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)
app.command("prune")(prune.prune)
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(presets.app, name="presets")
app.add_typer(schedule.app, name="schedule")


def main() -> None:
    """Runs the command. A user's mistake ends with one sentence and an exit code."""
    process.complete()
    try:
        process.require_file_handles()
        app()
    except Exception as error:
        user_error = failures.as_user_error(error)
        if user_error is None:
            raise
        write_line(Console(stderr=True), f"[red]Error:[/] {escape(str(user_error))}")
        sys.exit(user_error.exit_code)
