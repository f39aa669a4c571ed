"""What the replicas of a preset's training exchange in each step, counted in the traced graph.

python -m tests.benchmarks.collectives PRESET [--devices 2] [--json FILE]

Logical CPU devices take the place of GPUs: TensorFlow builds the same collectives for both, and nothing is computed. A
collective is counted once, with the bytes that each replica puts in. Copies are tensors that an operation takes from
another device.
"""

import argparse
from dataclasses import dataclass

import tensorflow as tf

from pipeline import config
from pipeline.bench import report
from pipeline.bench.measuring import Figure, Table
from trainer import loop
from trainer.config import TrainerSettings
from trainer.global_step import GlobalStep
from trainer.model import NNCLR
from trainer.plan import Plan

_IMAGES, _CLASSES, _CANVAS = 100_000, 10, 8


@dataclass(frozen=True)
class Exchange:
    """What replicas exchange in a step.

    Attributes:
        operations: The number of operations in the graph of all replicas.
        collectives: The type and the bytes of each collective of one replica.
        copies: The bytes of each tensor that is copied to another device.
    """

    operations: int
    collectives: list[tuple[str, int]]
    copies: list[int]


def traced(
    settings: TrainerSettings, size: tuple[int, int], strategy: tf.distribute.Strategy
) -> tuple[NNCLR, tf.Graph]:
    """Builds a model and traces one step of all replicas, with a probe batch.

    Args:
        settings: Settings of the trainer.
        size: Height and width of the views. The images themselves are tiny, because they are not exchanged.
        strategy: The strategy, whose number of replicas divides both batch sizes.
    """
    model, step = loop.build(settings, Plan.of(settings, _IMAGES), size, _CLASSES, strategy)

    def images(batch: int, **features):
        rows = batch // strategy.num_replicas_in_sync
        share = {
            "image": tf.zeros([rows, _CANVAS, _CANVAS, 3], tf.uint8),
            "shape": tf.fill([rows, 2], float(_CANVAS)),
        }
        return strategy.experimental_distribute_values_from_function(lambda _: share | features)

    probe_batch = settings.online_probe.batch_size
    labels = tf.zeros([probe_batch // strategy.num_replicas_in_sync], tf.int64)
    arguments = images(settings.batch_size), images(probe_batch, label=labels), tf.constant(0, tf.int64), size
    return model, GlobalStep(strategy, step).function.get_concrete_function(*arguments).graph


def exchange(graph: tf.Graph) -> Exchange:
    """Counts what the replicas of a traced step exchange.

    Raises:
        ValueError: If the shape of a tensor that is exchanged is not known before the step runs.
    """
    operations = graph.get_operations()
    (first, *_) = sorted({operation.device for operation in operations if operation.device})
    collectives = [
        (operation.type, _bytes(operation.inputs[0]))
        for operation in operations
        if operation.type.startswith("Collective") and operation.device == first
    ]
    copied = {
        (tensor.name, operation.device): tensor
        for operation in operations
        for tensor in operation.inputs
        if operation.device and tensor.op.device not in ("", operation.device) and tensor.dtype != tf.resource
    }
    return Exchange(len(operations), collectives, [_bytes(tensor) for tensor in copied.values()])


def _bytes(tensor: tf.Tensor) -> int:
    elements = tensor.shape.num_elements()
    if elements is None:
        raise ValueError(f"The shape of {tensor.name} is not known: {tensor.shape}.")
    return elements * tensor.dtype.size


def tables(preset: str, devices: int) -> list[Table]:
    """Counts; see the module."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    settings = config.load(preset)
    probe = settings.trainer.online_probe
    probe = probe.model_copy(update={"batch_size": probe.batch_size // devices * devices})
    trainer = settings.trainer.model_copy(update={"online_probe": probe})
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)])
    _, graph = traced(trainer, (settings.data.image_size,) * 2, strategy)
    found = exchange(graph)
    table = Table(f"What {devices} replicas exchange in a step of {preset}")
    for what, value, unit in (
        ("operations of a replica", found.operations / devices, ""),
        ("collectives", len(found.collectives), ""),
        ("put into collectives by a replica", sum(size for _, size in found.collectives) / 1e6, "MB"),
        ("copies between devices", len(found.copies), ""),
        ("copied between devices", sum(found.copies) / 1e6, "MB"),
    ):
        table.figures.append(Figure.of(what, [value], unit))
    return [table]


def main() -> None:
    """Counts and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", metavar="PRESET")
    parser.add_argument("--devices", type=int, default=2, metavar="N", help="number of replicas (default: 2)")
    report.add_option(parser)
    arguments = parser.parse_args()
    report.finish(tables(arguments.preset, arguments.devices), arguments.json)


if __name__ == "__main__":
    main()
