"""Does NNCLR on one's own images pay if there is a pretrained network already?

python -m tests.benchmarks.pretrained_start EXAMPLES --weights FILE [--encoder efficientnet-lite0] [--enlarge 224]
    [--set NAME=VALUE ...] [--scratch stl10-convnet] [--scratch-set NAME=VALUE ...] [--seeds 0] [--only ROW ...]

EXAMPLES is a folder that `nnclr ingest` wrote, and FILE has weights of the encoder (see `tests.benchmarks.lite0`).
Prints the accuracy of the evaluator's linear probe on `test` with 1 %, 10 % and all labels of `train` (the mean of five
draws for the first two), and the seconds of training, for these encoders:

    frozen     the pretrained network as it is, at the images' size
    enlarged   the same on images that are enlarged to `--enlarge` pixels
    start      after NNCLR on `unlabelled` from this start: the preset `pretrained` with this encoder and `--set`
    scratch    the preset `--scratch`, with `--scratch-set`, which starts from random weights

For instance, `--set trainer.encoder.frozen=0.25 --set trainer.epochs=5`.
"""

import argparse
import glob
import json
from collections.abc import Callable

import tensorflow as tf

from components.linear_probe_evaluator import protocols
from pipeline import config
from tests.benchmarks.judge import Judge
from trainer import data, loop, splits
from trainer.config import EncoderSettings, TrainerSettings
from trainer.encoders import build_encoder

_SHARES = (0.01, 0.1)
_PRESET = "pretrained"
_ROWS = ("frozen", "enlarged", "start", "scratch")

_Embed = Callable[[tf.Tensor], tf.Tensor]


def accuracies(judge: Judge, embed: _Embed) -> list[float]:
    """Returns the probe's accuracies with 1 %, 10 % and all labels."""
    train, test = judge.features(embed)
    found = []
    for share in _SHARES:
        subsets = protocols.draws(train.labels, share, seed=0)
        classes = int(train.labels.max()) + 1
        found.append(float(protocols.hits(train, test, subsets, classes, seed=0).mean()))
    return [*found, judge.score(train, test).accuracy]


def pretrained(encoder: EncoderSettings, size: tuple[int, int], pixels: int | None) -> _Embed:
    """Returns the embeddings of the network as it is, of images that are enlarged if `pixels` is given."""
    side = (pixels, pixels) if pixels else size
    network = build_encoder(encoder, side)

    @tf.function
    def embed(images: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        return network((tf.image.resize(images, side) if pixels else images) / 255, training=False)

    return embed


def trained(settings: TrainerSettings, files: dict[str, list[str]]) -> tuple[_Embed, float]:
    """Trains; returns the encoder's embeddings and the seconds of training."""
    model, result = loop.train(settings, loop.Job(files[splits.UNLABELLED], files[splits.TRAIN]))
    return lambda images: model.infer(images)["embedding"], result.seconds


def main() -> None:
    """Trains, measures and prints each row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples")
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--enlarge", type=int, default=224)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--scratch", default="stl10-convnet", metavar="PRESET")
    parser.add_argument("--scratch-set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=_ROWS, default=list(_ROWS))
    arguments = parser.parse_args()
    files = {split: sorted(glob.glob(f"{arguments.examples}/Split-{split}/*")) for split in splits.SPLITS}
    size = data.survey(files[splits.UNLABELLED]).largest
    judge = Judge(files, size)
    frozen = config.load(_PRESET).trainer.encoder.frozen
    encoder = EncoderSettings(name=arguments.encoder, weights=arguments.weights, frozen=frozen)
    of_start = [f"trainer.encoder={json.dumps(encoder.model_dump(mode='json'))}", *arguments.overrides]
    settings = {
        "start": config.load(_PRESET, None, of_start).trainer,
        "scratch": config.load(arguments.scratch, None, arguments.scratch_set).trainer,
    }
    print(f"{size[0]}x{size[1]} pixels, {arguments.encoder}, probe on test\n")
    print("| encoder | 1 % | 10 % | all labels | training |\n|---|---|---|---|---|", flush=True)

    def show(row: str, embed: _Embed, seconds: float) -> None:
        figures = " | ".join(f"{accuracy:.1%}" for accuracy in accuracies(judge, embed))
        print(f"| {row} | {figures} | {seconds:,.0f} s |", flush=True)

    for row in arguments.only:
        if row in settings:
            for seed in arguments.seeds:
                show(f"{row}, seed {seed}", *trained(settings[row].model_copy(update={"seed": seed}), files))
        else:
            pixels = arguments.enlarge if row == "enlarged" else None
            show(f"{row} at {pixels}" if pixels else row, pretrained(encoder, size, pixels), 0.0)


if __name__ == "__main__":
    main()
