"""Fetches the champion. TFX's own Resolver knows neither MLflow nor open-source Kubeflow Pipelines."""

import tempfile
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components import json_file
from components.model_registry import ModelRegistry, Version
from trainer.errors import UserError

MODEL = "model"
MODEL_NAME, ALIAS, REGISTRY_DIRECTORY, EXPECTED = "model_name", "alias", "registry_directory", "expected"

NONE = "none"

_DESCRIPTION = "champion.json"


class Executor(base_executor.BaseExecutor):
    """Writes the champion's SavedModel in TFX's layout and `champion.json`; only the latter if there is none."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        registry = ModelRegistry(exec_properties[REGISTRY_DIRECTORY])
        version = registry.aliased(exec_properties[MODEL_NAME], exec_properties[ALIAS])
        expected = exec_properties.get(EXPECTED)
        if expected and identity(version) != expected:
            raise UserError(
                f"The champion changed from {expected} to {identity(version)} while the run started. Run it again."
            )
        directory = artifact_utils.get_single_uri(output_dict[MODEL])
        if version:
            with tempfile.TemporaryDirectory() as aside:
                io_utils.copy_dir(registry.download(version, aside), path_utils.serving_model_dir(directory))
        found = {"name": version.name, "version": version.version} if version else {}
        json_file.write(directory, _DESCRIPTION, found)


def identity(version: Version | None) -> str:
    """A short text that changes when the champion does, for the cache."""
    return f"{version.name}:{version.version}:{version.sha256[:12]}" if version else NONE


def resolved(directory: str) -> tuple[str, int] | None:
    """Name and version in the artifact at `directory`; None if there was no champion."""
    found = json_file.read(directory, _DESCRIPTION)
    return (found["name"], found["version"]) if found else None
