"""What a large support set costs: the step's time and the process's memory, from 1,000 members to the paper's 98,304.

python -m tests.benchmarks.support_set [--rounds 7] [--json FILE]

The step of the preset `keras-example` on random images in memory (96x96, batch 525), alternately in one process; peak
memory (ru_maxrss) in a fresh process each, of three steps.
"""

import argparse
import resource
import subprocess
import sys

from pipeline import config
from pipeline.bench import report
from pipeline.bench.measuring import Figure, Table, alternately
from pipeline.bench.training import Step

_SIZES = [10_000, 1_000, 30_000, 98_304]
_BATCH, _PIXELS = 525, (96, 96)


def _step(size: int) -> Step:
    settings = config.load("keras-example").trainer
    return Step(settings.model_copy(update={"batch_size": _BATCH, "support_set_size": size}), _PIXELS)


def _peak(size: int) -> float:
    """GiB."""
    command = [sys.executable, "-m", "tests.benchmarks.support_set", "--only", str(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def tables(rounds: int) -> list[Table]:
    """Measures; see the module."""
    seconds = alternately({f"{size:,} members": _step(size) for size in _SIZES}, rounds, warm_up=2)
    time = Table(f"Step by support set, batch {_BATCH}", note="ratio of images/s to that with 10,000 members")
    time.rates(_BATCH, seconds, "images/s")
    memory = Table("Peak memory by support set", note="ratio to that with 10,000 members")
    peaks = {size: _peak(size) for size in _SIZES}
    for size, peak in peaks.items():
        memory.figures.append(Figure(f"{size:,} members", peak, peak, peak, "GiB", peak / peaks[_SIZES[0]]))
    return [time, memory]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", type=int, metavar="SIZE", help="print the peak of this process, in GiB")
    report.add_option(parser)
    arguments = parser.parse_args()
    if arguments.only:
        step = _step(arguments.only)
        for _ in range(3):
            step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return
    report.finish(tables(arguments.rounds), arguments.json)


if __name__ == "__main__":
    main()
