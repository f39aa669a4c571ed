"""Which devices train, and in which precision."""

import json
import os
from pathlib import Path

import tensorflow as tf

from trainer.errors import SettingsError

_CPU_FLAGS = Path("/proc/cpuinfo")


def default_strategy(xla: bool = False) -> tf.distribute.Strategy:
    """Over every GPU of this machine, or its CPU; over several machines where `TF_CONFIG` names them.

    `TF_CONFIG` is TensorFlow's own convention, which Kubeflow's TFJob and Vertex AI set. TensorFlow must not have
    computed anything before.

    Args:
        xla: the encoder will be compiled by XLA, inside which replicas cannot meet: for one device only.

    Raises:
        SettingsError: `TF_CONFIG` cannot be read, or there are several devices and XLA.
    """
    machines = _machines()
    if machines > 1 and not xla:
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    if not xla:
        return tf.distribute.MirroredStrategy(devices)
    if machines * len(devices) > 1:
        raise SettingsError(
            f"trainer.xla is for one device, and there are {machines * len(devices)}: set it to false, or show one GPU "
            "alone (CUDA_VISIBLE_DEVICES=0)."
        )
    return tf.distribute.OneDeviceStrategy(devices[0])


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes: the only one, or the first of several."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec().as_dict():
        return True
    has_chief = "chief" in resolver.cluster_spec().as_dict()
    return resolver.task_type == "chief" or (not has_chief and resolver.task_id == 0)


def _machines() -> int:
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return 1
    try:
        cluster = json.loads(text).get("cluster", {})
        return sum(len(cluster.get(kind, [])) for kind in ("chief", "master", "worker"))
    except (AttributeError, TypeError, ValueError) as error:
        raise SettingsError(f"The environment variable TF_CONFIG is no cluster description: {error}.") from error


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
