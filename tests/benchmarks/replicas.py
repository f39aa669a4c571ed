"""What the collective path costs: one, two and four logical CPU devices that share the same global batch.

python -m tests.benchmarks.replicas [--rounds 7] [--json FILE]

The step of the preset `keras-example` on random images in memory (96x96, batch 512, a probe batch of 24), alternately,
each number of devices in a process of its own: TensorFlow's collectives keep the first width that a process uses. The
devices share the same cores, so nothing can get faster: what is lost is overhead.
"""

import argparse
import sys

from pipeline import config
from pipeline.bench import report
from pipeline.bench.measuring import Table, alternately
from tests.benchmarks.worker import Worker, serve

_COUNTS = [1, 2, 4]
_BATCH, _PROBE_BATCH, _PIXELS = 512, 24, (96, 96)


def _work(devices: int) -> None:
    import tensorflow as tf

    from pipeline.bench.training import Step

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    settings = config.load("keras-example").trainer
    probe = settings.online_probe.model_copy(update={"batch_size": _PROBE_BATCH})
    settings = settings.model_copy(update={"batch_size": _BATCH, "online_probe": probe})
    serve(Step(settings, _PIXELS, tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)])))


def tables(rounds: int) -> list[Table]:
    """Measures; see the module."""
    own = [sys.executable, "-m", "tests.benchmarks.replicas", "--devices"]
    workers = {f"{count} device{'s' if count > 1 else ''}": Worker([*own, str(count)]) for count in _COUNTS}
    table = Table(f"Step by logical devices, global batch {_BATCH}", note="ratio: to one device")
    table.rates(_BATCH, alternately(workers, rounds, warm_up=2), "images/s")
    for worker in workers.values():
        worker.close()
    return [table]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--devices", type=int, metavar="N", help="be the contender with N devices")
    report.add_option(parser)
    arguments = parser.parse_args()
    if arguments.devices:
        _work(arguments.devices)
    else:
        report.finish(tables(arguments.rounds), arguments.json)


if __name__ == "__main__":
    main()
