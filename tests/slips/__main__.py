"""`make slips`: makes each deliberate slip in a copy of the sources and demands that its test fails.

A slip that its test does not catch, or whose text the sources no longer have, ends the command with exit code 1.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.slips.copies import copy_sources, made
from tests.slips.slips import SLIPS, Slip

# Pytest's exit codes.
_PASSED, _FAILED = 0, 1
_LIMIT_SECONDS = 600


def main() -> int:
    """Tries every slip, or those whose description or file contains an argument of the command."""
    wanted = sys.argv[1:]
    chosen = [slip for slip in SLIPS if not wanted or any(word in slip.what or word in slip.file for word in wanted)]
    if not chosen:
        print(f"No slip has {' or '.join(wanted)} in its description or its file.")
        return 2
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "copy")
        copy_sources(copy)
        print(f"Without a slip the {len({slip.test for slip in chosen})} named tests must pass ...", flush=True)
        code, output = _pytest(copy, *sorted({slip.test for slip in chosen}))
        if code != _PASSED:
            print(output)
            return 1
        verdicts = [_try(copy, slip) for slip in chosen]
    print(f"{verdicts.count('caught')} of {len(verdicts)} slips were caught.")
    return 0 if set(verdicts) == {"caught"} else 1


def _try(copy: Path, slip: Slip) -> str:
    start, verdict, output = time.monotonic(), "MISSED", ""
    try:
        with made(copy, slip):
            code, output = _pytest(copy, slip.test)
    except ValueError:
        verdict = "MISSED (its text no longer stands there exactly once)"
    else:
        if code == _FAILED:
            verdict = "caught"
        elif code != _PASSED:
            verdict = "MISSED (the test could not be run)"
    print(f"{verdict:8} {slip.file}: {slip.what} ({time.monotonic() - start:.0f} s)", flush=True)
    if verdict != "caught":
        print(f"         {slip.test}")
        print("\n".join(f"         {line}" for line in output.splitlines()[-15:]), flush=True)
    return verdict


def _pytest(copy: Path, *tests: str) -> tuple[int, str]:
    # Sources of one size that change within a second would otherwise be taken from their bytecode.
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    try:
        process = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return _FAILED, f"The test did not end within {_LIMIT_SECONDS} s."
    return process.returncode, process.stdout + process.stderr


if __name__ == "__main__":
    sys.exit(main())
