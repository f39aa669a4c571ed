"""Which devices train, and in which precision."""

from pathlib import Path

import tensorflow as tf

_CPU_FLAGS = Path("/proc/cpuinfo")


def local_strategy() -> tf.distribute.MirroredStrategy:
    """Mirrors over every GPU of this machine; without one, over its logical CPU devices (one unless configured)."""
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def compute_dtype(precision: str) -> str:
    """The Keras dtype policy behind the setting `precision`.

    `auto` is mixed_bfloat16 where the hardware multiplies bfloat16: GPUs from compute capability 8.0 (Ampere) on, CPUs
    with AMX (2.4 times the images/s of float32) or AVX-512 BF16 (1.4 to 1.6 times).
    """
    if precision == "auto":
        precision = "bfloat16" if _multiplies_bfloat16() else "float32"
    return "mixed_bfloat16" if precision == "bfloat16" else "float32"


def _multiplies_bfloat16() -> bool:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return capability >= (8, 0)
    flags = _CPU_FLAGS.read_text(encoding="ascii", errors="ignore").split() if _CPU_FLAGS.exists() else []
    return "amx_bf16" in flags or "avx512_bf16" in flags
