"""What `nnclr bench` measures: the step in each precision, the machine's limit, and whether reading keeps up."""

import statistics
from collections.abc import Callable, Mapping

from pipeline.bench.measuring import Figure, Table, alternately
from trainer.config import TrainerSettings

PRECISIONS = ("float32", "bfloat16")
_BATCHES = 8


def tables(settings: TrainerSettings, image_size: int, rounds: int) -> list[Table]:
    """Measures a training with these settings on this machine.

    Args:
        settings: the trainer's; both precisions are tried.
        image_size: height and width of the images.
        rounds: of each.
    """
    from pipeline.bench.reading import Reading, random_records
    from pipeline.bench.training import MatrixProduct, Step

    size = (image_size, image_size)
    made = {name: Step(settings.model_copy(update={"precision": name}), size) for name in PRECISIONS}
    contenders: dict[str, Callable[[], object]] = {f"step, {name}": step for name, step in made.items()}
    contenders |= {f"matrix product, {name}": MatrixProduct(name) for name in PRECISIONS}
    with random_records(_BATCHES * settings.batch_size, image_size) as files:
        contenders["input pipeline"] = Reading(files, settings, size)
        seconds = alternately(contenders, rounds, warm_up=2)

    steps = {name: seconds[f"step, {name}"] for name in PRECISIONS}
    training = Table(f"Training at {image_size}x{image_size}, batch {settings.batch_size}")
    training.rates(settings.batch_size, steps, "images/s")
    reading = Table("Input pipeline", note="ratio: to the faster step. Below 1 training waits for its images.")
    rates = [_BATCHES * settings.batch_size / sample for sample in seconds["input pipeline"]]
    fastest = max(figure.median for figure in training.figures)
    reading.figures.append(Figure.of("TFRecords to batches", rates, "images/s", statistics.median(rates) / fastest))
    products = {name: seconds[f"matrix product, {name}"] for name in PRECISIONS}
    flops = {name: step.flops() for name, step in made.items()}
    return [training, share_of_limit(flops, steps, products, MatrixProduct.flops), reading]


def share_of_limit(
    flops: Mapping[str, float],
    steps: Mapping[str, list[float]],
    products: Mapping[str, list[float]],
    product_flops: float,
) -> Table:
    """What of the best matrix product a step reaches, by precision.

    Args:
        flops: of a step, as `Step.flops` counts them.
        steps: seconds of each.
        products: seconds of each matrix product of the same run.
        product_flops: of one such call.
    """
    table = Table(
        "Arithmetic",
        note="ratio: of the best matrix product in this precision. Counted are the encoder's and the heads' forward "
        "and backward passes; the step's time is all that it does.",
    )
    for precision, samples in steps.items():
        best = product_flops / min(products[precision]) / 1e9
        rates = [flops[precision] / sample / 1e9 for sample in samples]
        table.figures += [
            Figure.of(f"matrix product, {precision}", [best], "GFLOP/s", 1.0),
            Figure.of(f"whole step, {precision}", rates, "GFLOP/s", statistics.median(rates) / best),
        ]
    return table
