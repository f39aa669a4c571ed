"""Recipes against each other at equal numbers of images seen: the Keras example, straight-through, the paper, SimCLR.

python -m tests.benchmarks.recipes EXAMPLES [--epochs 4] [--every 2] [--seeds 0] [--only NAME ...]

EXAMPLES is a folder that `nnclr ingest` wrote. All but `keras-example` share network, augmentation, batch and
optimiser, those of the preset `stl10-convnet`; `paper` has the paper's heads, smaller. Prints the evaluator's linear
probe (regularisation cross-validated inside `train`) and kNN accuracy on `test`, after each few epochs.
"""

import argparse
import glob

from pipeline import config
from tests.benchmarks.judge import Judge
from trainer import data, loop, metrics, splits, watch
from trainer.config import TrainerSettings
from trainer.model import NNCLR

_NEIGHBOURS = 20
_PAPER_HEADS = {
    "projection": {"units": [512, 512, 128], "batch_norm": True},
    "prediction": {"units": [512, 128], "batch_norm": True},
}


def recipes() -> dict[str, TrainerSettings]:
    """The settings by name."""
    ours = config.load("stl10-convnet").trainer.model_dump()
    return {
        "keras-example": config.load("keras-example").trainer,
        "stl10-convnet": TrainerSettings.model_validate(ours),
        "paper, small": TrainerSettings.model_validate(ours | _PAPER_HEADS | {"neighbour": "paper"}),
        "SimCLR": TrainerSettings.model_validate(ours | {"neighbour": "none"}),
    }


class _Probing(watch.Watch):
    """Measures on the splits `train` and `test` as well, every so often."""

    every = 1
    judge: Judge

    def measure(self, model: NNCLR, step: int, learning_rate: float) -> dict[str, float]:
        row = super().measure(model, step, learning_rate)
        self.count = getattr(self, "count", 0) + 1
        if self.count % self.every == 0:
            train, test = self.judge.features(lambda images: model.infer(images)["embedding"])
            probe = self.judge.score(train, test)
            knn = metrics.knn_accuracy(train.features, train.labels, test.features, test.labels, _NEIGHBOURS)
            interval = f"{probe.interval[0]:.1%} to {probe.interval[1]:.1%}"
            print(f"    epoch {self.count:3}: probe {probe.accuracy:.1%} ({interval}), kNN {knn:.1%}", flush=True)
        return row


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=list(recipes()), default=list(recipes()))
    arguments = parser.parse_args()
    files = {split: sorted(glob.glob(f"{arguments.examples}/Split-{split}/*")) for split in splits.SPLITS}
    size = data.survey(files[splits.UNLABELLED]).largest
    _Probing.judge = Judge(files, size)
    _Probing.every = arguments.every
    loop.Watch = _Probing  # type: ignore[misc]
    for seed in arguments.seeds:
        for name in arguments.only:
            print(f"{name}, seed {seed}, {size[0]}x{size[1]} pixels", flush=True)
            settings = recipes()[name].model_copy(update={"epochs": arguments.epochs, "seed": seed})
            _, result = loop.train(settings, loop.Job(files[splits.UNLABELLED], files[splits.TRAIN]))
            print(f"    {result.images_per_second:,.0f} images/s", flush=True)


if __name__ == "__main__":
    main()
