"""What `nnclr bench` measures: the step in each precision, the machine's limit, and whether reading keeps up."""

from collections.abc import Callable

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
    contenders: dict[str, Callable[[], object]] = {}
    for precision in PRECISIONS:
        contenders[f"step, {precision}"] = Step(settings.model_copy(update={"precision": precision}), size)
        contenders[f"matrix product, {precision}"] = MatrixProduct(precision)
    with random_records(_BATCHES * settings.batch_size, image_size) as files:
        contenders["input pipeline"] = Reading(files, settings, size)
        seconds = alternately(contenders, rounds, warm_up=2)

    steps = {name: seconds[f"step, {name}"] for name in PRECISIONS}
    training = Table(f"Training at {image_size}x{image_size}, batch {settings.batch_size}")
    training.rates(settings.batch_size, steps, "images/s")
    limit = Table(
        "Arithmetic",
        note="ratio: of the best matrix product in this precision. Counted are the encoder's and the heads' forward "
        "and backward passes; the step's time is all that it does.",
    )
    for precision in PRECISIONS:
        step = contenders[f"step, {precision}"]
        assert isinstance(step, Step)
        best = MatrixProduct.flops / min(seconds[f"matrix product, {precision}"])
        limit.figures.append(Figure(f"matrix product, {precision}", best / 1e9, best / 1e9, best / 1e9, "GFLOP/s", 1.0))
        rates = [step.flops() / sample / 1e9 for sample in steps[precision]]
        figure = Figure.of(f"whole step, {precision}", rates, "GFLOP/s")
        limit.figures.append(Figure.of(figure.what, rates, figure.unit, figure.median * 1e9 / best))
    reading = Table("Input pipeline", note="ratio: to the faster step. Below 1 training waits for its images.")
    rates = [_BATCHES * settings.batch_size / sample for sample in seconds["input pipeline"]]
    fastest = max(figure.median for figure in training.figures)
    read = Figure.of("TFRecords to batches", rates, "images/s")
    reading.figures.append(Figure.of(read.what, rates, read.unit, read.median / fastest))
    return [training, limit, reading]
