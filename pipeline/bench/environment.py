"""The machine and the versions that a benchmark was measured on."""

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

_PACKAGES = ("nnclr", "tensorflow", "keras", "apache-beam", "tfx", "numpy")
_CPUINFO = Path("/proc/cpuinfo")
_REPORTED_FLAGS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def environment() -> dict[str, str]:
    """Returns the processor, the load, the system and the versions of the main packages, as text by name."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = {
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "processor": f"{_processor()}, {cores} cores, {memory:.0f} GiB",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }
    return machine | {name: metadata.version(name) for name in _PACKAGES}


def _processor() -> str:
    if not _CPUINFO.exists():
        return platform.processor() or platform.machine()
    lines = {}
    for line in _CPUINFO.read_text(encoding="ascii", errors="ignore").splitlines():
        name, _, value = line.partition(":")
        lines[name.strip()] = value.strip()
    flags = [flag for flag in _REPORTED_FLAGS if flag in lines.get("flags", "").split()]
    return " ".join([lines.get("model name", platform.machine()), *(["with", *flags] if flags else [])])
