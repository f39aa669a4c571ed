"""The measurements of `nnclr bench`: the training step, the limit of the machine, and the input pipeline."""

import statistics
from collections.abc import Callable, Mapping

from pipeline.bench.measuring import Figure, Table, alternately
from trainer.config import TrainerSettings

PRECISIONS = ("float32", "bfloat16")
_BATCHES = 8
_LIMIT = 60.0


def measure(settings: TrainerSettings, image_size: int, rounds: int) -> list[Table]:
    """Measures the speed of a training on this machine.

    Args:
        settings: Settings of the trainer. `precision` is ignored: both precisions are measured.
        image_size: Height and width of the images in pixels.
        rounds: The number of measurements of each quantity. Fewer are taken where they would last over a minute.

    Returns:
        Tables of the training step, of its share of the machine's limit, and of the input pipeline.
    """
    from pipeline.bench.reading import Reading, random_records
    from pipeline.bench.training import MatrixProduct, Step

    size = (image_size, image_size)
    training_steps = {name: Step(settings.model_copy(update={"precision": name}), size) for name in PRECISIONS}
    contenders: dict[str, Callable[[], object]] = {f"step, {name}": step for name, step in training_steps.items()}
    contenders |= {f"matrix product, {name}": MatrixProduct(name) for name in PRECISIONS}
    with random_records(_BATCHES * settings.batch_size, image_size) as files:
        contenders["input pipeline"] = Reading(files, settings, size)
        seconds = alternately(contenders, rounds, warm_up=1, limit=_LIMIT)

    steps = {name: seconds[f"step, {name}"] for name in PRECISIONS}
    training = Table(f"Training at {image_size}x{image_size}, batch {settings.batch_size}")
    training.rates(settings.batch_size, steps, "images/s")
    reading = Table("Input pipeline", note="ratio: to the faster training step. Below 1, training waits for images.")
    rates = [_BATCHES * settings.batch_size / sample for sample in seconds["input pipeline"]]
    fastest = max(figure.median for figure in training.figures)
    reading.figures.append(Figure.of("TFRecords to batches", rates, "images/s", statistics.median(rates) / fastest))
    products = {name: seconds[f"matrix product, {name}"] for name in PRECISIONS}
    flops = {name: step.flops() for name, step in training_steps.items()}
    return [training, share_of_limit(flops, steps, products, MatrixProduct.flops), reading]


def share_of_limit(
    flops: Mapping[str, float],
    steps: Mapping[str, list[float]],
    products: Mapping[str, list[float]],
    product_flops: float,
) -> Table:
    """Compares the arithmetic speed of a training step with that of the fastest matrix product.

    Args:
        flops: Floating-point operations of one step by precision, as counted by `Step.flops`.
        steps: Seconds of each measured step by precision.
        products: Seconds of each matrix product, measured in the same run, by precision.
        product_flops: Floating-point operations of one measured matrix product.
    """
    table = Table(
        "Arithmetic",
        note="ratio: to the fastest matrix product in this precision. Operations: forward and backward passes of the "
        "encoder and its heads. Time: the whole step.",
    )
    for precision, samples in steps.items():
        best = product_flops / min(products[precision]) / 1e9
        rates = [flops[precision] / sample / 1e9 for sample in samples]
        table.figures += [
            Figure.of(f"matrix product, {precision}", [best], "GFLOP/s", 1.0),
            Figure.of(f"whole step, {precision}", rates, "GFLOP/s", statistics.median(rates) / best),
        ]
    return table
