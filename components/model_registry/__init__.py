"""The model registry: the one place that talks to MLflow."""

from components.model_registry.contents import DamagedVersion
from components.model_registry.history import Move
from components.model_registry.refusals import RegistryError
from components.model_registry.registry import SERVER_VARIABLE, SERVING_DIRECTORY, ModelRegistry, Release, Version

__all__ = [
    "SERVER_VARIABLE",
    "SERVING_DIRECTORY",
    "DamagedVersion",
    "ModelRegistry",
    "Move",
    "RegistryError",
    "Release",
    "Version",
]
