"""What each part of the method is worth, at equal seconds of training or at equal numbers of images.

    python -m tests.benchmarks.ablation EXAMPLES --seconds 600 [--seeds 3] [--only NAME ...] [--set NAME=VALUE ...]
    python -m tests.benchmarks.ablation EXAMPLES --images 200000 [--seeds 3] [--only NAME ...] [--set NAME=VALUE ...]

EXAMPLES is a folder that `nnclr ingest` wrote. Every row changes the preset's trainer by the settings that the row's
name stands for, and by those of `--set`. A training runs in a process of its own. Its encoder is judged by the
evaluator's linear probe (regularisation cross-validated inside `train`) and by kNN, both scored on `test`. Prints each
training, and then the means and standard deviations over the seeds.
"""

import argparse
import glob
import multiprocessing
import statistics
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from pipeline import config
from tests.benchmarks.judge import Judge
from trainer import loop, metrics, splits

_NEIGHBOURS = 20
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
    "batch of 128": ["batch_size=128"],
    "batch of 512": ["batch_size=512"],
    "temperature 0.2": ["temperature=0.2"],
    "smaller views at first": ["progressive_resizing.size=0.67"],
    "average of the last layer only": ["encoder.pooling=average"],
}


@dataclass(frozen=True)
class Result:
    """One training.

    Attributes:
        probe: Accuracy of the linear probe.
        knn: Accuracy of kNN.
        images: Number of images that were trained on.
        rate: Images trained on in a second.
    """

    probe: float
    knn: float
    images: float
    rate: float


def train_and_judge(examples: str, preset: str, changes: list[str]) -> Result:
    """Trains an encoder and judges it.

    Args:
        examples: The folder with the images.
        preset: The preset with the settings.
        changes: Settings of the trainer that override the preset's, such as `batch_size=128`.
    """
    files = {split: sorted(glob.glob(f"{examples}/Split-{split}/*")) for split in splits.SPLITS}
    settings = config.load(preset, None, [f"trainer.{change}" for change in changes]).trainer
    # Without labels, so that no time goes into the online probe.
    model, result = loop.train(settings, loop.Job(files[splits.UNLABELLED], []))
    judge = Judge(files, result.image_size)
    train, test = judge.features(lambda images: model.infer(images)["embedding"])
    return Result(
        judge.score(train, test).accuracy,
        metrics.knn_accuracy(train.features, train.labels, test.features, test.labels, _NEIGHBOURS),
        result.steps * settings.batch_size,
        result.images_per_second,
    )


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
    limit = [f"time_limit={arguments.seconds}s"] if arguments.seconds else [f"duration={arguments.images} examples"]
    results: dict[str, list[Result]] = {name: [] for name in arguments.only}
    # A process for each training, so that none inherits another's memory or TensorFlow's state.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn, max_tasks_per_child=1) as processes:
        for seed in range(arguments.seeds):
            for name, trained in results.items():
                changes = [*arguments.changes, *VARIANTS[name], *limit, f"seed={seed}", "watch.every=1000 epochs"]
                result = processes.submit(train_and_judge, arguments.examples, arguments.preset, changes).result()
                trained.append(result)
                print(
                    f"{name}, seed {seed}: probe {result.probe:.1%}, kNN {result.knn:.1%}, {result.images:,.0f} images "
                    f"at {result.rate:,.0f} images/s",
                    flush=True,
                )
    print("\n| configuration | probe | kNN | images |\n|---|---|---|---|")
    for name, trained in results.items():
        print(
            f"| {name} | {_told(result.probe for result in trained)} | {_told(result.knn for result in trained)} "
            f"| {statistics.mean(result.images for result in trained):,.0f} |"
        )


if __name__ == "__main__":
    main()
