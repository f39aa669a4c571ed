"""The command `python -m trainer`, which pretrains an encoder on TFRecords without TFX."""

import logging
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from trainer import failures, settings_tree, splits, storage
from trainer.config import CHAMPION, TrainerSettings
from trainer.errors import (
    BAD_DATA,
    DISK_FULL,
    DONE,
    FAILED,
    INTERRUPTED,
    STOPPED,
    UNTRAINABLE,
    WRONG_USAGE,
    SettingsError,
    exit_codes,
)
from trainer.progress import Progress

_REPORT_EVERY_SECONDS = 10.0

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


class _File(BaseModel):
    """A settings file of the pipeline. Only the section `trainer` is read."""

    trainer: TrainerSettings = TrainerSettings()


@app.command(epilog=exit_codes(DONE, FAILED, WRONG_USAGE, BAD_DATA, UNTRAINABLE, DISK_FULL, STOPPED, INTERRUPTED))
def main(
    records: Annotated[
        str,
        typer.Argument(
            metavar="RECORDS",
            help="Folder with the TFRecords Split-unlabelled/* and, for the online probe, Split-train/*, as written by "
            "the pipeline's ImageExampleGen; local or gs://.",
        ),
    ],
    output: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT",
            help="Folder for the encoder (model/), history.csv and TensorBoard logs (logs/), and the checkpoints of an "
            "unfinished training (checkpoints/); local or gs://.",
        ),
    ],
    config_file: Annotated[
        Path | None,
        typer.Option("--config", help="YAML file in the form of a preset. Only its section `trainer` is read."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Override one setting. May be repeated."),
    ] = None,
) -> None:
    """Pretrain an image encoder by NNCLR on a folder of TFRecords.

    Started again, the command continues from the last checkpoint. It trains on every GPU of the machine, or on the CPU
    if there is no GPU. If TF_CONFIG names several machines, all of them train together and must share both folders.

    **Examples**

    `nnclr presets show stl10-resnet18 > mine.yaml`

    `python -m trainer examples/ encoder/ --config mine.yaml --set trainer.epochs=100`

    `python -m trainer examples/ simclr/ --config mine.yaml --set trainer.neighbour=none`

    `tensorboard --logdir encoder/logs`

    **The records** are tf.train.Example protos with `image` (raw uint8 pixels, height x width x 3), `height`, `width`,
    `id`, and `label` (-1 if unknown). All images must have the same size.
    """
    tree = _only_trainer(config_file, overrides or [])
    settings = settings_tree.validated(_File, settings_tree.overridden(tree, overrides or [])).trainer
    if settings.warm_start == CHAMPION:
        raise SettingsError(
            "trainer.warm_start: only the pipeline knows the champion. Name the folder of an encoder, or set "
            "it to null."
        )
    storage.require_tensorflow(records, "RECORDS")
    storage.require_tensorflow(output, "OUT")
    _log_to_stderr()
    # Imported late, because these imports take many seconds.
    import tensorflow as tf

    from trainer import data, devices, loop, outcome

    unused = devices.unused_gpu()
    if unused and settings.devices == "auto":
        logging.getLogger("nnclr").warning("Warning: %s", unused)
    output = output.rstrip("/")
    # A training whose export was stopped still has its checkpoints, and is exported again.
    if tf.io.gfile.exists(f"{output}/model") and not tf.io.gfile.glob(f"{output}/checkpoints/*/*"):
        raise SettingsError(f"{output} already contains a finished training: name another folder, or delete this one.")
    job = loop.Job(
        data.matching_files([f"{records}/Split-{splits.UNLABELLED}/*"]),
        data.matching_files([f"{records}/Split-{splits.TRAIN}/*"], required=False),
        run_dir=f"{output}/logs",
        checkpoint_root=f"{output}/checkpoints",
        warm_start=settings.warm_start,
    )
    try:
        model, result = loop.train(settings, job)
        outcome.write(model, settings, result, f"{output}/model", job.run_dir or "")
    except KeyboardInterrupt:
        print("Interrupted; the state is saved. Run the same command again to resume.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if result.is_chief:
        print(
            f"{result.steps} steps in {result.seconds:.0f} s, {result.images_per_second:,.0f} images/s, final loss "
            f"{result.final_loss:.3f}."
        )
        print(f"The encoder is a SavedModel in {output}/model. To see its curves: tensorboard --logdir {output}/logs")


def _only_trainer(config_file: Path | None, overrides: list[str]) -> dict[str, Any]:
    """Reads the settings file, and refuses one, or an override, that sets nothing of the section `trainer`."""
    section = next(iter(_File.model_fields))
    tree: dict[str, Any] = settings_tree.read(config_file) if config_file else {}
    if tree and section not in tree:
        raise SettingsError(f"{config_file} has no section {section}; it has {', '.join(map(str, tree))}.")
    for override in overrides:
        if not override.startswith((f"{section}.", f"{section}=")):
            raise SettingsError(
                f"--set {override}: python -m trainer reads only the section {section}. Write {section}.NAME=VALUE."
            )
    return tree


class _ProgressFilter(logging.Filter):
    """Passes a progress report at most every ten seconds, and every other record."""

    _last = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        state: Progress | None = getattr(record, "progress", None)
        if state is None:
            return True
        is_due = state.done == state.total or time.monotonic() - self._last >= _REPORT_EVERY_SECONDS
        if is_due:
            self._last = time.monotonic()
        return is_due


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(_ProgressFilter())
    logger = logging.getLogger("nnclr")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def run() -> None:
    """Runs the command. A user's mistake ends it with one sentence and an exit code."""
    try:
        app()
    except Exception as error:
        user_error = failures.as_user_error(error)
        if user_error is None:
            raise
        print(f"Error: {user_error}", file=sys.stderr)
        sys.exit(user_error.exit_code)


if __name__ == "__main__":
    run()
