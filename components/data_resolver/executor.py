"""Resolves the data and the champion in TFX, for orchestrators whose submitting machine sees neither."""

import logging
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from components.champion_resolver import artifact as champion_artifact
from components.data_resolver import artifact
from components.data_resolver.resolution import nothing_new, resolve, settings_fingerprint
from components.linear_probe_evaluator.config import REFERENCES
from components.model_registry import ModelRegistry
from components.run_settings import RunSettings
from trainer import encoders, pretrained

SETTINGS, REGISTRY_DIRECTORY, PIPELINE_RUN = "settings", "registry_directory", "pipeline_run"

logger = logging.getLogger("nnclr")


class Executor(base_executor.BaseExecutor):
    """Writes the value of each output. Logs and records a run that has nothing new to train on."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        settings = RunSettings.model_validate_json(exec_properties[SETTINGS])
        data = resolve(settings.data, settings.evaluator.data)
        for sentence in data.passed_over:
            logger.warning(sentence)
        logger.info("Images: %s, fingerprint %s.", data.source, data.fingerprint)
        registry = ModelRegistry(exec_properties[REGISTRY_DIRECTORY])
        name, alias = settings.registry.model_name, settings.registry.alias
        champion = champion_artifact.identity(registry.aliased(name, alias), registry.best_release(name, alias))
        news = artifact.NEW
        if settings.data.only_new:
            reason = nothing_new(registry, settings, exec_properties[PIPELINE_RUN], data)
            if reason:
                logger.info(reason)
                news = artifact.OLD
        if news == artifact.NEW:
            # Before hours of training: the evaluator needs them after it.
            pretrained.require_loadable(settings.evaluator.references.pretrained, REFERENCES)
            encoders.require_buildable(settings.trainer.encoder, (settings.data.image_size,) * 2)
        values = {
            artifact.SOURCE: data.source,
            artifact.FINGERPRINT: data.fingerprint,
            artifact.LABELLED_FINGERPRINT: data.labelled_fingerprint,
            artifact.SETTINGS_FINGERPRINT: settings_fingerprint(settings),
            artifact.CHAMPION: champion,
            artifact.NEWS: news,
        }
        for name, value in values.items():
            artifact_utils.get_single_instance(output_dict[name]).value = value
