"""What each part of the method is worth, at equal seconds of training or at equal numbers of images.

    python -m tests.benchmarks.ablation EXAMPLES --seconds 600 [--seeds 3] [--only NAME ...] [--set NAME=VALUE ...]
    python -m tests.benchmarks.ablation EXAMPLES --images 200000 [--seeds 3] [--only NAME ...] [--set NAME=VALUE ...]

EXAMPLES is a folder that `nnclr ingest` wrote. Every row changes the preset's trainer by the settings that the row's
name stands for, and by those of `--set`. A training runs in a process of its own. Its encoder is judged by the
evaluator's linear probe (regularisation cross-validated inside `train`) and by kNN, both scored on `test`. Prints each
training, and then the means and standard deviations over the seeds.

The steps of all rows are timed first, in turns, so that other load on the machine affects all alike. With `--seconds`,
each row then trains on as many images as its step processes in this time. So all rows have equal seconds, even if the
machine is busier during some of the trainings than during others.
"""

import argparse
import glob
import multiprocessing
import statistics
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from pipeline import config
from pipeline.bench.measuring import alternately
from pipeline.bench.training import Step
from tests.benchmarks.judge import Judge
from trainer import data, loop, metrics, splits
from trainer.config import ProgressiveResizingSettings, TrainerSettings
from trainer.plan import Plan
from trainer.views import smaller_view_size

_NEIGHBOURS = 20
_ROUNDS = 9
_HEADS = ["projection={units: [512, 128], batch_norm: true}", "prediction={units: [512, 128], batch_norm: true}"]
_PAPER = ["neighbour=paper", *_HEADS]

#: The settings of the trainer by the name of the row.
VARIANTS: dict[str, list[str]] = {
    "preset": [],
    "SimCLR": ["neighbour=none"],
    "paper's loss": _PAPER,
    "paper's loss, momentum 0.9": [*_PAPER, "momentum_encoder.momentum=0.9"],
    "paper's loss, momentum 0.99": [*_PAPER, "momentum_encoder.momentum=0.99"],
    "average exported": ["momentum_encoder={momentum: 0.99, export: momentum}"],
    "one of five neighbours": ["top_k=5"],
    "two small views": ["multi_crop={views: 2, size: 0.65}"],
    "batch of 256": ["batch_size=256"],
    "half of the learning rate": ["optimizer.learning_rate=0.002"],
    "temperature 0.2": ["temperature=0.2"],
    "views of one size": ["progressive_resizing.size=1"],
    "average of the last layer only": ["encoder.pooling=average"],
}


@dataclass(frozen=True)
class Result:
    """One training.

    Attributes:
        probe: Accuracy of the linear probe.
        knn: Accuracy of kNN.
    """

    probe: float
    knn: float


def files_of(examples: str) -> dict[str, list[str]]:
    """Returns the files of each split."""
    return {split: sorted(glob.glob(f"{examples}/Split-{split}/*")) for split in splits.SPLITS}


def images_per_second(examples: str, settings: dict[str, TrainerSettings]) -> dict[str, float]:
    """Measures the training step of each row, in turns.

    Args:
        examples: The folder with the images; only their size and number matter.
        settings: Settings of the trainer by row.
    """
    survey = data.survey(files_of(examples)[splits.UNLABELLED])
    steps: dict[tuple[str, tuple[int, int]], Step] = {}
    for name, of_row in settings.items():
        one_size = of_row.model_copy(update={"progressive_resizing": ProgressiveResizingSettings(size=1)})
        for size in {survey.largest, smaller_view_size(of_row, survey.largest)}:
            steps[name, size] = Step(one_size, size)
    # The fastest call is the one that other load disturbed least.
    seconds = {key: min(samples) for key, samples in alternately(steps, _ROUNDS, warm_up=2).items()}
    rates = {}
    for name, of_row in settings.items():
        plan = Plan.of(of_row, survey.records)
        smaller = plan.smaller_views / plan.steps
        whole_seconds = seconds[name, survey.largest]
        smaller_seconds = seconds[name, smaller_view_size(of_row, survey.largest)]
        rates[name] = of_row.batch_size / (smaller * smaller_seconds + (1 - smaller) * whole_seconds)
    return rates


def train_and_judge(examples: str, settings: TrainerSettings) -> Result:
    """Trains an encoder and judges it.

    Args:
        examples: The folder with the images.
        settings: Settings of the trainer.
    """
    files = files_of(examples)
    # Without labels, so that no time goes into the online probe.
    model, result = loop.train(settings, loop.Job(files[splits.UNLABELLED], []))
    judge = Judge(files, result.image_size)
    train, test = judge.features(lambda images: model.infer(images)["embedding"])
    return Result(
        judge.score(train, test).accuracy,
        metrics.knn_accuracy(train.features, train.labels, test.features, test.labels, _NEIGHBOURS),
    )


def _settings(preset: str, changes: list[str]) -> TrainerSettings:
    return config.load(preset, None, [f"trainer.{change}" for change in changes]).trainer


def _told(values: Iterable[float]) -> str:
    shares = [100 * value for value in values]
    deviation = f" ± {statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{statistics.mean(shares):.1f}{deviation} %"


def main() -> None:
    """Trains, judges and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--seconds", type=int, help="length of each training")
    length.add_argument("--images", type=int, help="length of each training")
    parser.add_argument("--preset", default="stl10-convnet")
    parser.add_argument("--seeds", type=int, default=3, help="number of trainings of each row")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    # Few labels in the timed step, because the trainings have no online probe.
    common = [*arguments.changes, "watch.every=1000 epochs", "online_probe.batch_size=8"]
    settings = {name: _settings(arguments.preset, [*common, *VARIANTS[name]]) for name in arguments.only}
    # A process for each task, so that none inherits another's memory or TensorFlow's state.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn, max_tasks_per_child=1) as processes:
        rates = processes.submit(images_per_second, arguments.examples, settings).result()
        images = {name: arguments.images or round(arguments.seconds * rate) for name, rate in rates.items()}
        for name, rate in rates.items():
            print(f"{name}: {rate:,.0f} images/s, trains on {images[name]:,} images", flush=True)
        results: dict[str, list[Result]] = {name: [] for name in settings}
        for seed in range(arguments.seeds):
            for name, trained in results.items():
                of_training = {"seed": seed, "duration": f"{images[name]} examples"}
                result = processes.submit(
                    train_and_judge, arguments.examples, settings[name].model_copy(update=of_training)
                ).result()
                trained.append(result)
                print(f"{name}, seed {seed}: probe {result.probe:.1%}, kNN {result.knn:.1%}", flush=True)
    print(
        "\n| configuration | probe | kNN | images | time per image, relative to the first row |\n|---|---|---|---|---|"
    )
    first = next(iter(rates.values()))
    for name, trained in results.items():
        print(
            f"| {name} | {_told(result.probe for result in trained)} | {_told(result.knn for result in trained)} "
            f"| {images[name]:,} | {first / rates[name]:.2f} |"
        )


if __name__ == "__main__":
    main()
