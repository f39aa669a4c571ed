"""The training step against the textbook and against PyTorch with lightly's parts, alternately, in one run.

python -m tests.benchmarks.training_step [--peer PYTHON] [--rounds 7] [--pixels 96] [--batch 525] [--json FILE]

The preset `keras-example` with a support set of 10,000, on random images in memory: augmentation, both encoder passes,
neighbour search, loss, backward pass, optimiser and online probe. The textbook is `textbook.Textbook`, float32, with as
many images and a probe of its own. PEER is the Python of `lightly_peer`, which makes no probe pass; `compiled` is
torch.compile. FLOP/s count the encoder's and the heads' passes alone, against the best matrix product of the
same run (`pipeline.bench.training`).
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline import config
from pipeline.bench import report
from pipeline.bench.machine import PRECISIONS, share_of_limit
from pipeline.bench.measuring import Table, alternately
from pipeline.bench.training import MatrixProduct, Step
from tests.benchmarks.textbook import Textbook
from tests.benchmarks.worker import Worker


def _peer(python: str, arguments: list[str]) -> Worker:
    script = Path(__file__).with_name("lightly_peer.py")
    # PyTorch's own switch for huge pages: without it this step loses a third of its time to page faults.
    return Worker([python, str(script), *arguments], {"THP_MEM_ALLOC_ENABLE": "1"})


def _textbook(batch: int, size: tuple[int, int]) -> Callable[[], float]:
    rng = np.random.default_rng(0)
    model = Textbook(size)
    labelled_rows = 25
    unlabelled = tf.constant(rng.integers(0, 256, (batch - labelled_rows, *size, 3), np.uint8))
    labelled = tf.constant(rng.integers(0, 256, (labelled_rows, *size, 3), np.uint8))
    labels = tf.constant(rng.integers(0, 10, labelled_rows))
    return lambda: float(model.step(unlabelled, labelled, labels))


def tables(peer: str | None, rounds: int, pixels: int, batch: int) -> list[Table]:
    """Measures; see the module."""
    size = (pixels, pixels)
    settings = config.load("keras-example").trainer.model_copy(update={"batch_size": batch})
    contenders: dict[str, Callable[[], object]] = {"textbook, float32": _textbook(batch, size)}
    ours = {name: Step(settings.model_copy(update={"precision": name}), size) for name in PRECISIONS}
    contenders |= {f"nnclr, {name}": step for name, step in ours.items()}
    peers: list[Worker] = []
    if peer:
        common = ["--batch", str(batch), "--pixels", str(pixels), "--support-set", str(settings.support_set_size)]
        for precision in PRECISIONS:
            for name, more in (
                ("eager", []),
                ("compiled", ["--compile"]),
                ("eager, no augmentation", ["--no-augmentation"]),
            ):
                peers.append(_peer(peer, [*common, "--precision", precision, *more]))
                contenders[f"lightly {name}, {precision}"] = peers[-1]
    products = {precision: MatrixProduct(precision) for precision in PRECISIONS}
    seconds = alternately(contenders | {f"product {p}": product for p, product in products.items()}, rounds, warm_up=2)
    for process in peers:
        process.close()

    version = f" PyTorch {peers[0].greeting}." if peers else ""
    steps = Table(f"Training step, {pixels}x{pixels}, batch {batch}", note=f"ratio: to the textbook.{version}")
    steps.rates(batch, {name: seconds[name] for name in contenders}, "images/s")
    limit = share_of_limit(
        {precision: step.flops() for precision, step in ours.items()},
        {precision: seconds[f"nnclr, {precision}"] for precision in PRECISIONS},
        {precision: seconds[f"product {precision}"] for precision in PRECISIONS},
        MatrixProduct.flops,
    )
    return [steps, limit]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pixels", type=int, default=96)
    parser.add_argument("--batch", type=int, default=525)
    report.add_option(parser)
    arguments = parser.parse_args()
    report.finish(tables(arguments.peer, arguments.rounds, arguments.pixels, arguments.batch), arguments.json)


if __name__ == "__main__":
    main()
