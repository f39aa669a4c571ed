"""Data and servers that several tests use."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.faulty_storage import FaultyStorage

# The fixture of each kind of bucket.
_BUCKETS = {"gs": "cloud_storage", "s3": "s3"}

# The tests' processes share two cores with what they start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The threads of scikit-learn's t-SNE wait for each other actively, which takes minutes while other processes compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_sessionstart() -> None:
    """Pauses the garbage collector while the tests import TensorFlow, TFX and MLflow."""
    gc.disable()
    # A shell starts background jobs with SIGINT ignored, and the tests' processes would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Resumes the garbage collector; the modules that are loaded by now are not searched again."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def stl10_images() -> dict[str, np.ndarray]:
    """Noise in the three splits, uint8 [N, 96, 96, 3]."""
    rng = np.random.default_rng(0)
    counts = {"unlabelled": 30, "train": 20, "test": 10}
    return {split: rng.integers(0, 256, (count, 96, 96, 3), np.uint8) for split, count in counts.items()}


@pytest.fixture
def stl10_directory(tmp_path: Path, stl10_images: dict[str, np.ndarray]) -> Path:
    """`stl10_images` in STL-10's layout; the image with index i has the label i % 10 + 1 and is in the fold i % 10."""
    from components.image_example_gen import stl10

    directory = tmp_path / "stl10"
    directory.mkdir()
    for split, name in (("unlabelled", "unlabeled"), ("train", "train"), ("test", "test")):
        images = stl10_images[split]
        (directory / f"{name}_X.bin").write_bytes(stl10.encode_images(images))
        if split != "unlabelled":
            (directory / f"{name}_y.bin").write_bytes(bytes(i % 10 + 1 for i in range(len(images))))
    (directory / "fold_indices.txt").write_text("".join(f"{fold} {fold + 10}\n" for fold in range(10)))
    (directory / "class_names.txt").write_text("\n".join(f"class{i}" for i in range(10)))
    return directory


@pytest.fixture(scope="session")
def logical_cpus() -> list[str]:
    """Four logical CPU devices; to be asked for before the process computes anything."""
    import tensorflow as tf

    if len(tf.config.list_logical_devices("CPU")) != 4:
        raise RuntimeError("TensorFlow ran before tests/conftest.py could split the CPU")
    return [device.name for device in tf.config.list_logical_devices("CPU")]


@pytest.fixture(scope="session", autouse=True)
def _split_cpu(request: pytest.FixtureRequest) -> None:
    """Splits the CPU before anything runs on it, where a test of the session wants several devices."""
    if any("logical_cpus" in getattr(item, "fixturenames", ()) for item in request.session.items):
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an embedded registry without models, which tests copy: to create its tables takes seconds."""
    from components.model_registry import ModelRegistry

    folder = tmp_path_factory.mktemp("empty") / "registry"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        ModelRegistry(str(folder)).names()
    return folder


@pytest.fixture
def mlflow_server(running_mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a real MLflow server, also in MLFLOW_TRACKING_URI. All tests share it: each names its models."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", running_mlflow_server)
    return running_mlflow_server


@pytest.fixture(scope="session")
def running_mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server behind `mlflow_server`, which starts in seconds."""
    from tests import mlflow_server

    with mlflow_server.running(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(scope="session")
def object_storage() -> Iterator[str]:
    """The address of a real SeaweedFS on loopback, which starts in seconds: each test names its own buckets or keys."""
    from tests import object_storage

    with object_storage.running() as url:
        yield url


@pytest.fixture
def s3(object_storage: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a bucket in SeaweedFS, which Amazon's clients are pointed to; each test names its own keys."""
    from tests import object_storage as server

    for name, value in (server.ENVIRONMENT | {"AWS_ENDPOINT_URL": object_storage}).items():
        monkeypatch.setenv(name, value)
    server.create_bucket(object_storage, "images")
    return "images"


@pytest.fixture(params=["gs", "s3"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an empty folder in Cloud Storage and in S3."""
    return f"{request.param}://{request.getfixturevalue(_BUCKETS[request.param])}/{tmp_path.name}"


@pytest.fixture
def watched_bucket(bucket: str) -> "Iterator[tuple[str, FaultyStorage]]":
    """The URI of an empty folder in Cloud Storage and in S3 behind a proxy, without faults at first, and the proxy."""
    from tests import faulty_storage

    variable = {"gs": "STORAGE_EMULATOR_HOST", "s3": "AWS_ENDPOINT_URL"}[bucket[:2]]
    with faulty_storage.in_front_of(os.environ[variable], variable) as proxy:
        proxy.faulty = False
        yield bucket, proxy


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the clients of buckets wait a hundredth of the time before they try again."""
    import asyncio
    from types import SimpleNamespace

    import aiobotocore.endpoint
    import gcsfs.retry
    import s3fs.core

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds / 100)

    quick = SimpleNamespace(**{**vars(asyncio), "sleep": sleep})
    for module in (gcsfs.retry, s3fs.core, aiobotocore.endpoint):
        monkeypatch.setattr(module, "asyncio", quick)


@pytest.fixture
def cloud_storage() -> Iterator[str]:
    """A real fake-gcs-server on loopback with the bucket `images`, which Google's clients are pointed to."""
    from tests import cloud_storage

    with cloud_storage.running():
        yield cloud_storage.BUCKET
