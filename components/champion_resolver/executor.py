"""Fetches the champion. TFX's own Resolver knows neither MLflow nor open-source Kubeflow Pipelines."""

import tempfile
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components import outputs
from components.champion_resolver import artifact
from components.champion_resolver.artifact import Champion, Resolved, identity
from components.model_registry import DamagedVersion, ModelRegistry, Version
from components.model_registry.config import ChampionSettings
from components.model_registry.contents import DATA_STATISTICS, SAVED_MODEL
from trainer.errors import UserError

SETTINGS, REGISTRY_DIRECTORY, EXPECTED, REQUIRED = "settings", "registry_directory", "expected", "required"


class Executor(base_executor.BaseExecutor):
    """Writes the artifact `model`. Without a champion, it holds only `champion.json`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        outputs.empty(output_dict)
        settings = ChampionSettings.model_validate_json(exec_properties[SETTINGS])
        registry = ModelRegistry(exec_properties[REGISTRY_DIRECTORY])
        version = registry.aliased(settings.model_name, settings.alias)
        best = registry.best_release(settings.model_name, settings.alias)
        expected, found = exec_properties.get(EXPECTED), identity(version, best)
        if expected and found != expected:
            raise UserError(f"The champion changed from {expected} to {found} while the run started. Run it again.")
        directory = artifact_utils.get_single_uri(output_dict[artifact.MODEL])
        champion = _fetched(registry, version, directory) if version else None
        if champion and champion.problem and exec_properties[REQUIRED]:
            # Before anything is trained: this problem would prevent the release.
            raise UserError(
                f"The champion cannot be read ({champion.problem}). Roll back with nnclr models rollback, or go on "
                "without it: --accept-baseline-reset, and trainer.warm_start=null if training starts from it."
            )
        best_release = _fetched(registry, best, artifact.best_release_directory(directory)) if best else None
        artifact.write(directory, Resolved(champion=champion, best_release=best_release))


def _fetched(registry: ModelRegistry, version: Version, directory: str) -> Champion:
    return Champion(name=version.name, version=version.version, problem=_fetch(registry, version, directory))


def _fetch(registry: ModelRegistry, version: Version, directory: str) -> str | None:
    """Copies a version's SavedModel and the statistics of its images into a folder.

    Returns why that is impossible, if it is.
    """
    try:
        with tempfile.TemporaryDirectory() as download:
            release = registry.download(version, download)
            io_utils.copy_dir(str(release / SAVED_MODEL), path_utils.serving_model_dir(directory))
            if (release / DATA_STATISTICS).exists():
                artifact.write_statistics(directory, (release / DATA_STATISTICS).read_bytes())
    except DamagedVersion as error:
        return str(error)
    return None
