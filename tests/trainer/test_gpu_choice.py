"""Where there is a GPU's driver and TensorFlow sees no GPU, that is said, with the remedy; this machine has neither."""

from importlib import metadata
from pathlib import Path

import pytest
import tensorflow as tf

from trainer import devices, precision
from trainer.config import TrainerSettings
from trainer.errors import SettingsError


@pytest.fixture
def driver(tmp_path, monkeypatch) -> Path:
    """What NVIDIA's driver installs: a program on the PATH."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return program


@pytest.fixture
def cuda_libraries(tmp_path, monkeypatch) -> None:
    """As if infra/gpu.lock were installed."""
    package = tmp_path / "nvidia_cudnn_cu12-9.3.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: nvidia-cudnn-cu12\nVersion: 9.3\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_without_a_driver_nothing_is_missing():
    assert devices.unused_gpu() is None


def test_missing_libraries_are_named_with_the_command_that_installs_them(driver):
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("nvidia-cudnn-cu12")
    assert "CUDA's libraries are missing. Install them with `make gpu`" in devices.unused_gpu()


def test_the_device_alone_shows_a_driver_as_well(tmp_path, monkeypatch):
    device = tmp_path / "nvidia0"
    device.touch()
    monkeypatch.setattr(devices, "_GPU_DEVICES", (device,))
    assert "CUDA's libraries are missing" in devices.unused_gpu()


def test_where_the_libraries_are_installed_the_driver_is_suspected(driver, cuda_libraries):
    assert "the driver may be too old for CUDA 12" in devices.unused_gpu()


def test_a_build_without_cuda_is_named(driver, monkeypatch):
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: False)
    assert "this TensorFlow is built for CPUs only" in devices.unused_gpu()


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_gpus_that_the_user_hides_are_not_missed(driver, monkeypatch, hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert devices.unused_gpu() is None
    with pytest.raises(SettingsError, match="CUDA_VISIBLE_DEVICES hides every GPU: unset it"):
        devices.select("gpu")


def test_training_on_a_gpu_is_refused_where_there_is_none(monkeypatch):
    with pytest.raises(SettingsError, match=r"trainer.devices is gpu. This machine has no NVIDIA driver"):
        devices.default_strategy(TrainerSettings(devices="gpu").devices)


@pytest.mark.parametrize("choice", ["auto", "cpu"])
def test_the_cpu_is_taken_where_there_is_no_gpu(choice):
    assert all("CPU" in name for name in devices.default_strategy(choice).extended.worker_devices)


def test_hidden_gpus_neither_train_nor_choose_the_precision(monkeypatch):
    """TensorFlow lists a hidden GPU among its physical devices still."""
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [gpu])
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda device: {"compute_capability": (9, 0)}, raising=True
    )
    monkeypatch.setattr(precision, "_bfloat16_is_faster_on_the_cpu", lambda: False)
    assert precision.compute_dtype("auto") == "float32"


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), "float32"), ((8, 0), "mixed_bfloat16")])
def test_gpus_compute_in_bfloat16_from_ampere_on(monkeypatch, capability, dtype):
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind=None: [gpu])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: {"compute_capability": capability})
    assert precision.compute_dtype("auto") == dtype


@pytest.mark.parametrize(("seconds", "dtype"), [(0.7, "mixed_bfloat16"), (0.9, "float32"), (1.1, "float32")])
def test_cpus_compute_in_bfloat16_if_it_is_clearly_faster(monkeypatch, seconds, dtype):
    busy = iter([5.0, 5.0])

    def seconds_of_product(matrix):
        return next(busy, seconds if matrix.dtype == tf.bfloat16 else 1.0)

    precision._bfloat16_is_faster_on_the_cpu.cache_clear()
    monkeypatch.setattr(precision, "_seconds_of_product", seconds_of_product)
    assert precision.compute_dtype("auto") == dtype
    precision._bfloat16_is_faster_on_the_cpu.cache_clear()


def test_the_choice_of_the_precision_is_repeatable():
    choices = set()
    for _ in range(3):
        precision._bfloat16_is_faster_on_the_cpu.cache_clear()
        choices.add(precision.compute_dtype("auto"))
    assert len(choices) == 1


@pytest.mark.parametrize(("gpus", "implementation"), [(1, "NCCL"), (0, "AUTO")])
def test_machines_with_gpus_communicate_by_nccl(monkeypatch, gpus, implementation):
    """TensorFlow's own choice is always rings over gRPC."""
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["one:1", "two:1"]}}')
    present = [tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")] * gpus
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind=None: present)
    # The strategy itself would wait for the other machine.
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda **options: options)
    assert devices.default_strategy()["communication_options"].implementation.name == implementation
