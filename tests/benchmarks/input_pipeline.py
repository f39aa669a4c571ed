"""Does reading keep up with training? TFRecords to batches alone, cold and warm, against what the step eats.

python -m tests.benchmarks.input_pipeline [--images 8400] [--rounds 5] [--json FILE]

Random images of 96x96 in four shards, as ImageExampleGen lays them out; one epoch a round, shuffled as in training.
"cold" asks the kernel to drop the files from its page cache first (posix_fadvise), so it reads the disk. The step is
that of the preset `keras-example` at batch 525 in the precision `auto`; all alternately in one process.
"""

import argparse
import os

from pipeline import config
from pipeline.bench import report
from pipeline.bench.measuring import Table, alternately
from pipeline.bench.reading import Reading, random_records
from pipeline.bench.training import Step

_BATCH, _PIXELS = 525, 96


def _forget(files: list[str]) -> None:
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def tables(images: int, rounds: int) -> list[Table]:
    """Measures; see the module."""
    size = (_PIXELS, _PIXELS)
    settings = config.load("keras-example").trainer.model_copy(update={"batch_size": _BATCH})
    batches = images // _BATCH
    step = Step(settings, size)
    with random_records(batches * _BATCH, _PIXELS) as files:
        read = Reading(files, settings, size)

        def train() -> None:
            for _ in range(batches):
                step()

        def cold() -> None:
            _forget(files)
            read()

        seconds = alternately({"step": train, "reading, warm": read, "reading, cold": cold}, rounds)
    table = Table(f"Reading against training, {_PIXELS}x{_PIXELS}, batch {_BATCH}", note="ratio: to the step")
    table.rates(batches * _BATCH, seconds, "images/s")
    return [table]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8_400)
    parser.add_argument("--rounds", type=int, default=5)
    report.add_option(parser)
    arguments = parser.parse_args()
    report.finish(tables(arguments.images, arguments.rounds), arguments.json)


if __name__ == "__main__":
    main()
