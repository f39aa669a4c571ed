"""Evaluates in TFX: reads artifacts, writes what was found and the blessing."""

import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components import json_file, outputs
from components.linear_probe_evaluator import page as report
from components.linear_probe_evaluator.config import EvaluatorSettings
from components.linear_probe_evaluator.evaluation import Places, evaluate
from trainer.signatures import Classifier

EXAMPLES, LABELLED_EXAMPLES, MODEL, CHAMPION = "examples", "labelled_examples", "model", "champion"
MODEL_RUN = "model_run"
EVALUATION, BLESSING = "evaluation", "blessing"
SETTINGS = "settings"

REPORT = "report.html"
_METRICS = "metrics.json"
_PROBE = "probe.npz"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Evaluates and blesses.

    Into `evaluation` it writes `metrics.json`, `report.html` and, if there are labels, the fitted probe; into
    `blessing` TFX's file, with a sentence for each requirement.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        outputs.empty(output_dict)
        settings = EvaluatorSettings.model_validate_json(exec_properties[SETTINGS])
        examples = artifact_utils.get_single_uri(input_dict[EXAMPLES])
        labelled = input_dict.get(LABELLED_EXAMPLES)
        evaluation_dir = artifact_utils.get_single_uri(output_dict[EVALUATION])
        with tempfile.TemporaryDirectory() as memory:
            places = Places(
                pretraining=examples,
                labelled=artifact_utils.get_single_uri(labelled) if labelled else examples,
                model=path_utils.serving_model_path(artifact_utils.get_single_uri(input_dict[MODEL])),
                champion=artifact_utils.get_single_uri(input_dict[CHAMPION]),
                aside=f"{evaluation_dir}/partial",
                memory=Path(memory),
            )
            evaluation = evaluate(settings, places, self._make_beam_pipeline)
            metrics = evaluation.metrics
            page = report.render(evaluation, places.model, artifact_utils.get_single_uri(input_dict[MODEL_RUN]))
        if fileio.exists(places.aside):
            fileio.rmtree(places.aside)
        if evaluation.candidate:
            probe = evaluation.candidate.probe
            buffer = io.BytesIO()
            np.savez(buffer, weights=probe.weights, bias=probe.bias)
            with fileio.open(f"{evaluation_dir}/{_PROBE}", "wb") as file:
                file.write(buffer.getvalue())
        io_utils.write_string_file(f"{evaluation_dir}/{REPORT}", page)
        json_file.write(evaluation_dir, _METRICS, metrics)
        blessing = artifact_utils.get_single_instance(output_dict[BLESSING])
        name = constants.BLESSED_FILE_NAME if metrics["blessed"] else constants.NOT_BLESSED_FILE_NAME
        sentences = [check["sentence"] for check in metrics["checks"]] if metrics["blessed"] else metrics["reasons"]
        io_utils.write_string_file(os.path.join(blessing.uri, name), "\n".join(sentences))
        blessing.set_int_custom_property(
            constants.ARTIFACT_PROPERTY_BLESSED_KEY,
            constants.BLESSED_VALUE if metrics["blessed"] else constants.NOT_BLESSED_VALUE,
        )


def read_metrics(directory: str) -> dict[str, Any]:
    """What `metrics.json` in the artifact `evaluation` holds."""
    return json_file.read(directory, _METRICS)


def read_classifier(directory: str) -> Classifier:
    """The fitted probe in the artifact `evaluation` of an encoder that was measured."""
    with fileio.open(f"{directory}/{_PROBE}", "rb") as file:
        arrays = np.load(io.BytesIO(file.read()), allow_pickle=False)
    return Classifier(arrays["weights"], arrays["bias"], list(read_metrics(directory)["class_accuracy"]))


def is_blessed(directory: str) -> bool:
    """Whether the artifact `blessing` blesses: the file counts, as custom properties get lost on Kubeflow."""
    return fileio.exists(os.path.join(directory, constants.BLESSED_FILE_NAME))
