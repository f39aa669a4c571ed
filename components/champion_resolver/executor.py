"""Fetches the champion. TFX's own Resolver knows neither MLflow nor open-source Kubeflow Pipelines."""

import tempfile
from dataclasses import asdict, dataclass
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components import json_file, outputs
from components.model_registry import DamagedVersion, ModelRegistry, Version
from components.model_registry.contents import SAVED_MODEL
from trainer.errors import UserError

MODEL = "model"
MODEL_NAME, ALIAS, REGISTRY_DIRECTORY, EXPECTED = "model_name", "alias", "registry_directory", "expected"
REQUIRED = "required"

NONE = "none"

_DESCRIPTION = "champion.json"


@dataclass(frozen=True)
class Champion:
    """The version that was found, and why it cannot be used, if so."""

    name: str
    version: int
    problem: str | None = None

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


class Executor(base_executor.BaseExecutor):
    """Writes the champion's SavedModel in TFX's layout and `champion.json`; only the latter if there is none."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        outputs.empty(output_dict)
        registry = ModelRegistry(exec_properties[REGISTRY_DIRECTORY])
        version = registry.aliased(exec_properties[MODEL_NAME], exec_properties[ALIAS])
        expected = exec_properties.get(EXPECTED)
        if expected and identity(version) != expected:
            raise UserError(
                f"The champion changed from {expected} to {identity(version)} while the run started. Run it again."
            )
        directory = artifact_utils.get_single_uri(output_dict[MODEL])
        champion = None
        if version:
            problem = None
            try:
                with tempfile.TemporaryDirectory() as aside:
                    release = registry.download(version, aside)
                    io_utils.copy_dir(str(release / SAVED_MODEL), path_utils.serving_model_dir(directory))
            except DamagedVersion as error:
                # Said before anything is trained: it would stand in the way of a release.
                if exec_properties[REQUIRED]:
                    raise UserError(
                        f"The champion cannot be read ({error}). Roll back with nnclr models rollback, or go on "
                        "without it: --accept-baseline-reset, and trainer.warm_start=null if training starts from it."
                    ) from error
                problem = str(error)
            champion = Champion(version.name, version.version, problem)
        json_file.write(directory, _DESCRIPTION, asdict(champion) if champion else {})


def identity(version: Version | None) -> str:
    """A short text that changes when the champion does, for the cache."""
    return f"{version.name}:{version.version}:{version.sha256[:12]}" if version else NONE


def resolved(directory: str) -> Champion | None:
    """The champion in the artifact at `directory`; None if there was none."""
    found = json_file.read(directory, _DESCRIPTION)
    return Champion(**found) if found else None
