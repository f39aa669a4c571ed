"""Pushes to the registry in TFX, or says that there was nothing to push."""

import json
import tempfile
from pathlib import Path
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components import json_file, outputs
from components.linear_probe_evaluator import executor as evaluator
from components.linear_probe_evaluator import page as report
from components.model_registry import ModelRegistry, pipeline_runs
from components.model_registry.pipeline_runs import PipelineRun, PipelineRuns
from components.registry_pusher.push import Pushed, push
from components.registry_pusher.release import Candidate

MODEL, EVALUATION, BLESSING = "model", "evaluation", "blessing"
PUSHED = "pushed_model"
MODEL_NAME, ALIAS, REGISTRY_DIRECTORY = "model_name", "alias", "registry_directory"
ARTIFACT_LOCATION, SERVING_DIRECTORY = "artifact_location", "serving_directory"
PIPELINE_RUN, RECIPE, PROVENANCE = "pipeline_run", "recipe", "provenance"

REPORT = evaluator.REPORT
_DESCRIPTION = "push.json"


class Executor(base_executor.BaseExecutor):
    """Writes into `pushed_model` the report, now with the registry's version in it, and `push.json`; records the run.

    Its fields are `pushed`, `changed` and `outcome` (see `pipeline_runs.PipelineRun`), and, if something was pushed,
    `name`, `version`, `uri`, `alias` (None where the version does not have it), `standing_back` (why not), `page` and
    `served`.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        outputs.empty(output_dict)
        evaluation = artifact_utils.get_single_uri(input_dict[EVALUATION])
        output = artifact_utils.get_single_uri(output_dict[PUSHED])
        page = io_utils.read_string_file(f"{evaluation}/{evaluator.REPORT}")
        metrics = evaluator.read_metrics(evaluation)
        registry = ModelRegistry(exec_properties[REGISTRY_DIRECTORY], exec_properties.get(ARTIFACT_LOCATION) or None)
        result: dict[str, Any] = {"pushed": False, "changed": False}
        pushed = None
        if evaluator.is_blessed(artifact_utils.get_single_uri(input_dict[BLESSING])):
            exported = path_utils.serving_model_path(artifact_utils.get_single_uri(input_dict[MODEL]))
            alias = exec_properties[ALIAS]
            with tempfile.TemporaryDirectory() as aside:
                # MLflow reads local files; the artifact may lie in a bucket.
                model = str(Path(aside, "model"))
                io_utils.copy_dir(exported, model)
                candidate = Candidate(
                    model=model,
                    classifier=evaluator.read_classifier(evaluation),
                    metrics=metrics,
                    report=page,
                    provenance=json.loads(exec_properties[PROVENANCE]) | {PIPELINE_RUN: exec_properties[PIPELINE_RUN]},
                )
                pushed = push(
                    registry,
                    exec_properties[MODEL_NAME],
                    alias,
                    candidate,
                    exec_properties.get(SERVING_DIRECTORY) or None,
                )
            version = pushed.version
            result = {
                "pushed": True,
                "changed": pushed.new or pushed.moved,
                "name": version.name,
                "version": version.version,
                "uri": version.uri,
                "alias": alias if alias in version.aliases else None,
                "standing_back": pushed.not_promoted,
                "page": registry.page(version),
                "served": pushed.served,
            }
            page = report.released(page, version.name, version.version, version.uri, result["page"])
        record = _record(exec_properties[PIPELINE_RUN], exec_properties[RECIPE], metrics, pushed)
        PipelineRuns(registry, exec_properties[MODEL_NAME]).record(record)
        result["outcome"] = record.outcome
        fileio.makedirs(output)
        io_utils.write_string_file(f"{output}/{REPORT}", page)
        json_file.write(output, _DESCRIPTION, result)


def _record(run: str, recipe: str, metrics: dict[str, Any], pushed: Pushed | None) -> PipelineRun:
    if pushed is None:
        outcome, detail = pipeline_runs.NOT_BLESSED, " ".join(metrics["reasons"])
    elif pushed.not_promoted:
        outcome, detail = pipeline_runs.NOT_PROMOTED, pushed.not_promoted
    else:
        changed = pushed.new or pushed.moved
        outcome = pipeline_runs.RELEASED if changed else pipeline_runs.UNCHANGED
        detail = " ".join(check["sentence"] for check in metrics["checks"])
    return PipelineRun(
        run,
        outcome,
        detail,
        metrics["data"],
        pipeline_runs.data_identity(metrics["data_fingerprint"], metrics["labelled_fingerprint"]),
        recipe,
        pushed.version.version if pushed else None,
        metrics["probe_accuracy"],
        metrics["baseline_version"],
    )


def read_push(directory: str) -> dict[str, Any]:
    """What `push.json` in the artifact `pushed_model` holds."""
    return json_file.read(directory, _DESCRIPTION)
