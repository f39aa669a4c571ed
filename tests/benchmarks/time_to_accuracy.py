"""How long until the encoder is as good as the textbook's after ten epochs?

python -m tests.benchmarks.time_to_accuracy EXAMPLES [--preset stl10-convnet] [--set NAME=VALUE ...] [--epochs 10]
    [--seeds 0 1] [--reached ACCURACY SECONDS] [--json FILE]

EXAMPLES is a folder that `nnclr ingest` wrote. The textbook (the Keras example's step in float32, see
`textbook`) trains for so many epochs; before and after it, this project trains by a preset, once for each seed. Both
are judged by the evaluator's own linear probe on frozen features (regularisation cross-validated inside `train`, scored
on `test`), and both clocks count training alone: building graphs and reading records are in it, probing is not. A
training counts from its start to the first measurement whose probe is at least the textbook's last; all measurements
are told. `--reached` takes the textbook's figures from an earlier run on this machine.
"""

import argparse
import glob
import time
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from pipeline import config
from pipeline.bench import report
from pipeline.bench.measuring import Figure, Table
from tests.benchmarks.judge import Judge
from tests.benchmarks.textbook import Textbook
from trainer import data, loop, splits, watch
from trainer.config import TrainerSettings
from trainer.model import NNCLR
from trainer.plan import Plan

# How often our training is measured, and after how many epochs each the textbook.
_MEASUREMENTS, _PROBED_EPOCHS = 6, 5


def textbook_curve(
    files: dict[str, list[str]], size: tuple[int, int], epochs: int, judge: Judge
) -> list[tuple[float, float]]:
    """Seconds of training and probe accuracy, every few epochs and at the end."""
    settings = TrainerSettings()
    keras.utils.set_random_seed(0)
    start = time.monotonic()
    model, seconds, curve = Textbook(size), 0.0, []
    labelled_split = data.LabelledSplit(files[splits.TRAIN], size, settings.online_probe.holdout)
    for epoch in range(1, epochs + 1):
        order = data.Order(settings.shuffle_buffer, settings.seed, epoch)
        unlabelled = data.unlabelled_batches(files[splits.UNLABELLED], size, settings.batch_size, order)
        labelled = labelled_split.training_batches(settings.online_probe.batch_size, order)
        for a, b in tf.data.Dataset.zip(unlabelled, labelled).prefetch(2):
            model.step(a["image"], b["image"], b["label"])
        seconds += time.monotonic() - start
        if epoch == epochs or epoch % _PROBED_EPOCHS == 0:
            features = judge.features(lambda images: model.encoder(tf.cast(images, tf.float32) / 255))
            curve.append((seconds, judge.score(*features).accuracy))
            print(f"textbook, epoch {epoch}: {seconds:.0f} s, probe {curve[-1][1]:.1%}", flush=True)
        start = time.monotonic()
    return curve


def _our_curve(settings: TrainerSettings, files: dict[str, list[str]], judge: Judge) -> list[tuple[float, float]]:
    """Seconds of training and probe accuracy, several times until the end."""

    class Probing(watch.Watch):
        def measure(self, model: NNCLR, step: int, learning_rate: float) -> dict[str, float]:
            features = judge.features(lambda images: model.infer(images)["embedding"])
            accuracy = judge.score(*features).accuracy
            print(f"nnclr: probe {accuracy:.1%}", flush=True)
            return super().measure(model, step, learning_rate) | {"accuracy": accuracy}

    with mock.patch.object(loop, "Watch", Probing):
        _, result = loop.train(settings, loop.Job(files[splits.UNLABELLED], files[splits.TRAIN]))
    curve, seconds, step = [], 0.0, 0
    for row in result.history:
        # A row's images/s count its interval's training alone.
        seconds += (row["step"] - step) * settings.batch_size / row["images_per_second"]
        step = int(row["step"])
        curve.append((seconds, row["accuracy"]))
    return curve


def main() -> None:
    """Trains, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples")
    parser.add_argument("--preset", default="stl10-convnet")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--epochs", type=int, default=10, help="of the textbook")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--reached", type=float, nargs=2, metavar=("ACCURACY", "SECONDS"))
    report.add_option(parser)
    arguments = parser.parse_args()
    files = {split: sorted(glob.glob(f"{arguments.examples}/Split-{split}/*")) for split in splits.SPLITS}
    size = data.survey(files[splits.UNLABELLED]).largest
    judge = Judge(files, size)
    settings = config.load(arguments.preset, None, arguments.overrides).trainer
    steps = Plan.of(settings, data.survey(files[splits.UNLABELLED]).records).steps
    every = f"{max(steps // _MEASUREMENTS, 1)} steps"
    settings = settings.model_copy(update={"watch": settings.watch.model_copy(update={"every": every})})
    curves = []
    textbook = [(arguments.reached[1], arguments.reached[0])] if arguments.reached else []
    for position, seed in enumerate(arguments.seeds):
        curves.append(_our_curve(settings.model_copy(update={"seed": seed}), files, judge))
        if position == 0 and not arguments.reached:
            textbook = textbook_curve(files, size, arguments.epochs, judge)
    needed, goal = textbook[-1]
    table = Table(
        f"Time until a probe of {goal:.1%}, {size[0]}x{size[1]}, preset {arguments.preset}", note="ratio: times as fast"
    )
    table.figures.append(
        Figure(f"textbook, {arguments.epochs} epochs", needed, needed, needed, "s", 1.0, _told(textbook))
    )
    for seed, curve in zip(arguments.seeds, curves, strict=True):
        reached = [seconds for seconds, accuracy in curve if accuracy >= goal]
        if reached:
            first = reached[0]
            table.figures.append(Figure(f"nnclr, seed {seed}", first, first, first, "s", needed / first, _told(curve)))
        else:
            table.figures.append(Figure(f"nnclr, seed {seed}: never", np.nan, np.nan, np.nan, "s", None, _told(curve)))
    report.finish([table], arguments.json)


def _told(curve: list[tuple[float, float]]) -> str:
    return "; ".join(f"{accuracy:.1%} after {seconds:.0f} s" for seconds, accuracy in curve)


if __name__ == "__main__":
    main()
