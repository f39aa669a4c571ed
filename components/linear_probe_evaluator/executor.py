"""Evaluates in TFX: reads artifacts, writes the evaluation and the blessing."""

import tempfile
from pathlib import Path
from typing import Any

from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components import outputs
from components.champion_resolver import artifact as champion_artifact
from components.data_gate import artifact as data_gate_artifact
from components.linear_probe_evaluator import artifact, page
from components.linear_probe_evaluator.artifact import BLESSING, EVALUATION
from components.linear_probe_evaluator.config import EvaluatorSettings
from components.linear_probe_evaluator.evaluation import Inputs, RegisteredModel, evaluate

EXAMPLES, LABELLED_EXAMPLES, MODEL, CHAMPION = "examples", "labelled_examples", "model", "champion"
MODEL_RUN, DATA_CHECKS = "model_run", "data_checks"
SETTINGS = "settings"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Evaluates the candidate and writes the artifacts `evaluation` and `blessing`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        outputs.empty(output_dict)
        settings = EvaluatorSettings.model_validate_json(exec_properties[SETTINGS])
        pretraining = artifact_utils.get_single_uri(input_dict[EXAMPLES])
        labelled = input_dict.get(LABELLED_EXAMPLES)
        evaluation_dir = artifact_utils.get_single_uri(output_dict[EVALUATION])
        with tempfile.TemporaryDirectory() as local:
            inputs = Inputs(
                pretraining=pretraining,
                labelled=artifact_utils.get_single_uri(labelled) if labelled else pretraining,
                model=path_utils.serving_model_path(artifact_utils.get_single_uri(input_dict[MODEL])),
                **_registered(artifact_utils.get_single_uri(input_dict[CHAMPION])),
                scratch=f"{evaluation_dir}/partial",
                local_scratch=Path(local),
                data_checks=data_gate_artifact.read_checks(artifact_utils.get_single_uri(input_dict[DATA_CHECKS])),
            )
            evaluation = evaluate(settings, inputs, self._make_beam_pipeline)
            report = page.render(evaluation, inputs.model, artifact_utils.get_single_uri(input_dict[MODEL_RUN]))
            if fileio.exists(inputs.scratch):
                fileio.rmtree(inputs.scratch)
            artifact.write_evaluation(
                evaluation_dir, evaluation.metrics, report, evaluation.probe, evaluation.predictions
            )
        blessing = artifact_utils.get_single_instance(output_dict[BLESSING])
        artifact.write_blessing(blessing.uri, evaluation.metrics)
        blessing.set_int_custom_property(
            constants.ARTIFACT_PROPERTY_BLESSED_KEY,
            constants.BLESSED_VALUE if evaluation.metrics.blessed else constants.NOT_BLESSED_VALUE,
        )


def _registered(directory: str) -> dict[str, RegisteredModel | None]:
    resolved = champion_artifact.read(directory)
    folders = {"champion": directory, "best_release": champion_artifact.best_release_directory(directory)}
    return {
        role: RegisteredModel(version, path_utils.serving_model_path(folders[role])) if version else None
        for role, version in resolved
    }
