"""Runs the benchmarks one after the other, each in a process of its own: `make bench`.

python -m tests.benchmarks [NAME ...] [--peer PYTHON] [--results DIR]

Without names: all that need no data of yours, about an hour on two cores. Each writes DIR/NAME.json beside what it
prints. `--peer` is a Python that has torch and lightly (see `lightly_peer`). What needs photographs (`textbook`,
`ablation`, `time_to_accuracy`, `pretrained_start`) is run by itself: see PERFORMANCE.md.
"""

import argparse
import subprocess
import sys
from pathlib import Path

_NAMES = ("training_step", "filter_gradients", "support_set", "replicas", "input_pipeline", "ingest", "fixed_costs")


def main() -> None:
    """Runs and prints; the exit code says whether all ran."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*_NAMES, []], metavar="NAME", help=", ".join(_NAMES))
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--results", type=Path, default=Path("benchmarks"))
    arguments = parser.parse_args()
    arguments.results.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in arguments.names or _NAMES:
        print(f"\n== {name}", flush=True)
        peer = ["--peer", arguments.peer] if arguments.peer and name == "training_step" else []
        results = ["--json", str(arguments.results / f"{name}.json")]
        command = [sys.executable, "-m", f"tests.benchmarks.{name}", *peer, *results]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
