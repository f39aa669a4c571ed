"""What the collective path costs: one, two and four logical CPU devices that share the same global batch.

python -m tests.benchmarks.replicas [--rounds 7] [--json FILE]

The step of the preset `keras-example` on random images in memory (96x96, batch 512, no labels), alternately in one
process. The devices share the same cores, so nothing can get faster: what is lost is overhead.
"""

import argparse

import tensorflow as tf

from pipeline import config
from pipeline.bench import report
from pipeline.bench.measuring import Table, alternately
from pipeline.bench.training import Step

_COUNTS = [1, 2, 4]
_BATCH, _PROBE_BATCH, _PIXELS = 512, 24, (96, 96)


def tables(rounds: int) -> list[Table]:
    """Measures; see the module. Must be the first to use TensorFlow in its process."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * max(_COUNTS))
    settings = config.load("keras-example").trainer
    probe = settings.online_probe.model_copy(update={"batch_size": _PROBE_BATCH})
    settings = settings.model_copy(update={"batch_size": _BATCH, "online_probe": probe})
    steps = {}
    for count in _COUNTS:
        strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])
        steps[f"{count} replica{'s' if count > 1 else ''}"] = Step(settings, _PIXELS, strategy)
    table = Table(f"Step by logical devices, global batch {_BATCH}", note="ratio of images/s to one device")
    table.rates(_BATCH, alternately(steps, rounds, warm_up=2), "images/s")
    return [table]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    report.add_option(parser)
    arguments = parser.parse_args()
    report.finish(tables(arguments.rounds), arguments.json)


if __name__ == "__main__":
    main()
