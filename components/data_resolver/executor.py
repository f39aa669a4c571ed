"""Resolves in TFX, where the machine that starts a run does not see the data."""

import json
import logging
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from components.data_resolver.resolution import nothing_new, recipe, resolve
from components.model_registry import ModelRegistry
from components.model_registry.pipeline_runs import PipelineRuns

SOURCE, SPAN, SETTLED_MINUTES, FINGERPRINT = "source", "span", "settled_minutes", "fingerprint"
LABELLED_SOURCE, SETTINGS, ONLY_NEW = "labelled_source", "settings", "only_new"
MODEL_NAME, REGISTRY_DIRECTORY, PIPELINE_RUN = "model_name", "registry_directory", "pipeline_run"
# Outputs; TFX hands values on as artifacts with one value.
FOUND_SOURCE, FOUND_FINGERPRINT, LABELLED_FINGERPRINT = "found_source", "found_fingerprint", "labelled_fingerprint"
RECIPE, NEWS = "recipe", "news"

# Values of the output `news`.
NEW, OLD = "new", "old"
# A value of settled_minutes; Kubeflow knows no null.
NEVER = -1.0

logger = logging.getLogger("nnclr")


class Executor(base_executor.BaseExecutor):
    """Writes each output's value; logs, and adds to the pipeline's runs, that there is nothing new."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        settled_minutes = exec_properties[SETTLED_MINUTES]
        found = resolve(
            exec_properties[SOURCE],
            exec_properties[SPAN] or None,
            None if settled_minutes == NEVER else settled_minutes,
            exec_properties[LABELLED_SOURCE] or None,
            exec_properties[FINGERPRINT],
        )
        for sentence in found.passed_over:
            logger.warning(sentence)
        logger.info("Images: %s, fingerprint %s.", found.source, found.fingerprint)
        settings = json.loads(exec_properties[SETTINGS])
        made_by = recipe(settings)
        news = NEW
        if exec_properties[ONLY_NEW]:
            registry = ModelRegistry(exec_properties[REGISTRY_DIRECTORY])
            champion = registry.aliased(exec_properties[MODEL_NAME], settings["registry"]["alias"])
            runs = PipelineRuns(registry, exec_properties[MODEL_NAME])
            present = champion.version if champion else None
            old = nothing_new(runs, exec_properties[PIPELINE_RUN], found, made_by, present)
            if old:
                logger.info(old)
                news = OLD
        values = {
            FOUND_SOURCE: found.source,
            FOUND_FINGERPRINT: found.fingerprint,
            LABELLED_FINGERPRINT: found.labelled_fingerprint,
            RECIPE: made_by,
            NEWS: news,
        }
        for name, value in values.items():
            artifact_utils.get_single_instance(output_dict[name]).value = value
