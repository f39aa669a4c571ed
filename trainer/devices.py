"""The devices that train."""

import json
import os
import shutil
from importlib import metadata
from pathlib import Path

import tensorflow as tf

from trainer import replicas
from trainer.errors import SettingsError

# NVIDIA's driver is present if one of these exists: its device on Linux, its library under WSL 2, its program.
_GPU_DEVICES, _GPU_PROGRAM = (Path("/dev/nvidia0"), Path("/usr/lib/wsl/lib/libcuda.so.1")), "nvidia-smi"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
# A package in infra/gpu.lock.
_CUDA_PACKAGE = "nvidia-cudnn-cu12"


def select(choice: str) -> None:
    """Makes TensorFlow use the devices that the setting `trainer.devices` chooses.

    Must be called before TensorFlow computes anything.

    Args:
        choice: `auto` (every GPU, or the CPU if there is no GPU), `gpu` or `cpu`.

    Raises:
        SettingsError: If the choice is `gpu` and TensorFlow sees no GPU.
    """
    if choice == "cpu":
        tf.config.set_visible_devices([], "GPU")
    elif choice == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise SettingsError(f"trainer.devices is gpu. {_why_no_gpu()} Or set trainer.devices to auto or cpu.")


def unused_gpu() -> str | None:
    """Explains why TensorFlow does not see this machine's GPU, and what to do.

    Returns:
        Sentences; None if TensorFlow sees a GPU, if there is no GPU, or if `CUDA_VISIBLE_DEVICES` hides it.
    """
    if tf.config.list_physical_devices("GPU") or not _has_driver() or _is_hidden():
        return None
    return _why_no_gpu()


def _has_driver() -> bool:
    return any(device.exists() for device in _GPU_DEVICES) or shutil.which(_GPU_PROGRAM) is not None


def _is_hidden() -> bool:
    return os.environ.get(_VISIBLE, "0").strip() in ("", "-1")


def _why_no_gpu() -> str:
    if not _has_driver():
        return f"This machine has no NVIDIA driver: there is neither {_GPU_DEVICES[0]} nor {_GPU_PROGRAM}."
    if _is_hidden():
        return f"The environment variable {_VISIBLE} hides every GPU: unset it."
    problem = "This machine has an NVIDIA driver, but TensorFlow sees no GPU and would train on the CPU:"
    if not tf.test.is_built_with_cuda():
        return f"{problem} this TensorFlow is built for CPUs only. Use the image's stage `gpu`, or run make gpu."
    try:
        metadata.version(_CUDA_PACKAGE)
    except metadata.PackageNotFoundError:
        return f"{problem} CUDA's libraries are missing. Install them with `make gpu`, or from infra/gpu.lock."
    return (
        f"{problem} CUDA's libraries are installed, so the driver may be too old for CUDA 12 (see {_GPU_PROGRAM}), or "
        "this user may not open the device. TensorFlow's own words: "
        """python -c "import tensorflow as tf; tf.config.list_physical_devices('GPU')"."""
    )


def default_strategy(choice: str = "auto", xla: bool = False) -> tf.distribute.Strategy:
    """Distributes a training over every GPU of this machine, or over its CPU, or over the machines of `TF_CONFIG`.

    `TF_CONFIG` is TensorFlow's own environment variable, which Kubeflow's TFJob and Vertex AI set. Must be called
    before TensorFlow computes anything.

    Args:
        choice: The setting `trainer.devices`; see `select`.
        xla: Whether XLA will compile the encoder, which needs a single device.

    Raises:
        SettingsError: If a GPU is demanded and there is none, if `TF_CONFIG` cannot be read, or if `xla` is set and
            there are several devices.
    """
    select(choice)
    machines = _machines()
    if machines > 1 and not xla:
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=_communication())
    gpus = tf.config.list_logical_devices("GPU")
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    if not xla:
        return tf.distribute.MirroredStrategy(devices)
    require_one_device_for_xla(machines * len(devices))
    return tf.distribute.OneDeviceStrategy(devices[0])


def _communication() -> tf.distribute.experimental.CommunicationOptions:
    """Returns how machines communicate: by NCCL if they have GPUs, where TensorFlow would choose its slower rings.

    All machines need devices of the same kind, so that this one's tell those of the others.
    """
    # Logical devices would start TensorFlow's runtime, which a strategy of several machines must configure first.
    implementation = "NCCL" if tf.config.get_visible_devices("GPU") else "AUTO"
    return tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation[implementation]
    )


def require_one_device_for_xla(devices: int) -> None:
    """Refuses XLA on several devices, because replicas cannot communicate inside of a compiled encoder.

    Raises:
        SettingsError: If there are several devices.
    """
    if devices > 1:
        raise SettingsError(
            f"trainer.xla is for one device, and there are {devices}: set it to false, or show one GPU "
            "alone (CUDA_VISIBLE_DEVICES=0)."
        )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process writes the results: it is the only one, or the first of several."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec().as_dict():
        return True
    has_chief = "chief" in resolver.cluster_spec().as_dict()
    return resolver.task_type == "chief" or (not has_chief and resolver.task_id == 0)


def least(strategy: tf.distribute.Strategy, value: float) -> float:
    """Returns the least of the values that all machines of a strategy give at the same time."""

    everywhere = strategy.run(tf.function(lambda: replicas.stack(tf.constant(value, tf.float32)), autograph=False))
    return float(tf.reduce_min(strategy.experimental_local_results(everywhere)[0]))


def _machines() -> int:
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return 1
    try:
        cluster = json.loads(text).get("cluster", {})
        return sum(len(cluster.get(kind, [])) for kind in ("chief", "master", "worker"))
    except (AttributeError, TypeError, ValueError) as error:
        raise SettingsError(f"The environment variable TF_CONFIG is not a cluster description: {error}.") from error
