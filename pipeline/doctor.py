"""Checks whether this machine or container image can run the pipeline (`nnclr doctor`)."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from pipeline import installation, provenance
from trainer.errors import UserError

_PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)==(\S+)", re.MULTILINE)
_SHOWN = 5
# The CPU image contains the build of TensorFlow without GPU code, which is a separate project.
_EQUIVALENT_PROJECTS = {"tensorflow": "tensorflow-cpu"}


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes:
        name: The name of the check.
        ok: Whether the check passed.
        detail: The versions and devices of this machine, or the problem.
    """

    name: str
    ok: bool
    detail: str


def run_checks() -> list[Finding]:
    """Runs all checks, which load TensorFlow and TFX."""
    checks: dict[str, Callable[[], str]] = {
        "Python": _python,
        "Packages": _packages,
        "Own packages": _own_packages,
        "TensorFlow": _tensorflow,
        "Devices": _devices,
        "TFX": _tfx,
        "Beam": _beam,
        "Presets": _presets,
        "Model registry": _registry,
    }
    return [_finding(name, check) for name, check in checks.items()]


def _finding(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except UserError as error:
        return Finding(name, False, str(error))
    # Any other error is a problem of the machine too, and is reported.
    except Exception as error:
        return Finding(name, False, " ".join(f"{type(error).__name__}: {error}".split()))


def _python() -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] != (3, 11):
        raise UserError(f"{version} is installed, but nnclr needs 3.11")
    return version


def _packages() -> str:
    lock = provenance.lock_file()
    if lock is None:
        raise UserError("requirements.lock is not part of this installation")
    pinned: dict[str, str] = dict(_PINNED.findall(lock.read_text(encoding="utf-8")))
    differences = []
    for name, version in pinned.items():
        installed = _installed_version(name) or _installed_version(_EQUIVALENT_PROJECTS.get(name, name)) or "missing"
        if installed != version:
            differences.append(f"{name} {installed} instead of {version}")
    if differences:
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise UserError(f"versions differ from requirements.lock: {', '.join(differences[:_SHOWN])}{more}")
    return f"nnclr {metadata.version('nnclr')}, {len(pinned)} dependencies as in requirements.lock"


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _own_packages() -> str:
    if replaced := installation.replaced_packages():
        raise UserError(" ".join(replaced))
    return "not replaced by another project"


def _tensorflow() -> str:
    import keras
    import tensorflow as tf

    return f"{tf.__version__}, Keras {keras.__version__}"


def _devices() -> str:
    import tensorflow as tf

    from trainer import devices, precision

    if unused := devices.unused_gpu():
        raise UserError(unused)
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    summary = f"{len(gpus)} GPUs ({', '.join(names)})" if gpus else f"no GPU, {os.cpu_count()} CPU cores"
    return f"{summary}; precision auto is {precision.compute_dtype('auto')}"


def _tfx() -> str:
    # TFX must be imported first: it provides a module that this version of TFDV lacks.
    from tfx import version

    # isort: split
    import ml_metadata
    import tensorflow_data_validation as tfdv

    from pipeline import dag

    return f"{version.__version__}, TFDV {tfdv.__version__}, MLMD {ml_metadata.__version__}, {dag.__name__} loads"


def _beam() -> str:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.testing.util import assert_that, equal_to

    from pipeline.config import Settings

    with beam.Pipeline(options=PipelineOptions(Settings().beam_pipeline_args())) as pipeline:
        assert_that(pipeline | beam.Create([1, 2, 3]) | beam.CombineGlobally(sum), equal_to([6]))
    return beam.__version__


def _presets() -> str:
    from pipeline import config

    for name in config.presets():
        config.load(name)
    return ", ".join(config.presets())


def _registry() -> str:
    from components.model_registry import SERVER_VARIABLE, ModelRegistry

    if not os.environ.get(SERVER_VARIABLE):
        return f"embedded, because {SERVER_VARIABLE} is not set"
    return f"the server in {SERVER_VARIABLE} responds and has {len(ModelRegistry('').names())} models"
