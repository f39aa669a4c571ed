"""The model registry: the only package that talks to MLflow's registry. Importing it does not import MLflow."""

from components.model_registry.connection import SERVER_VARIABLE
from components.model_registry.contents import DamagedVersion
from components.model_registry.errors import RegistryError
from components.model_registry.history import Move
from components.model_registry.registry import ModelRegistry
from components.model_registry.tags import SERVING_DIRECTORY
from components.model_registry.versions import Release, Version, VersionDetails

__all__ = [
    "SERVER_VARIABLE",
    "SERVING_DIRECTORY",
    "DamagedVersion",
    "ModelRegistry",
    "Move",
    "RegistryError",
    "Release",
    "Version",
    "VersionDetails",
]
