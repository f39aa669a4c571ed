"""Pushes to the registry in TFX, and records the outcome of the run."""

import tempfile
from pathlib import Path
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components import outputs
from components.data_gate import artifact as data_gate_artifact
from components.linear_probe_evaluator import artifact as evaluation_artifact
from components.linear_probe_evaluator.artifact import Metrics
from components.model_registry import ModelRegistry, pipeline_runs
from components.model_registry.config import CHALLENGER
from components.model_registry.pipeline_runs import PipelineRun, PipelineRuns
from components.registry_pusher import artifact
from components.registry_pusher.artifact import Push
from components.registry_pusher.provenance import CodeVersion
from components.registry_pusher.push import Pushed, push
from components.registry_pusher.release import Candidate
from components.run_settings import RunSettings
from trainer.signatures import Classifier

MODEL, EVALUATION, BLESSING, DATA_CHECKS = "model", "evaluation", "blessing", "data_checks"
SETTINGS, SETTINGS_FINGERPRINT, CODE = "settings", "settings_fingerprint", "code"
REGISTRY_DIRECTORY, PIPELINE_RUN = "registry_directory", "pipeline_run"


class Executor(base_executor.BaseExecutor):
    """Pushes a blessed model, writes the artifact `pushed_model`, and records the run in the registry."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        outputs.empty(output_dict)
        settings = RunSettings.model_validate_json(exec_properties[SETTINGS])
        evaluation, run = artifact_utils.get_single_uri(input_dict[EVALUATION]), exec_properties[PIPELINE_RUN]
        report, metrics = evaluation_artifact.read_report(evaluation), evaluation_artifact.read_metrics(evaluation)
        names = settings.registry
        registry = ModelRegistry(exec_properties[REGISTRY_DIRECTORY], names.artifact_location or None)
        pushed = None
        if evaluation_artifact.is_blessed(artifact_utils.get_single_uri(input_dict[BLESSING])):
            exported = path_utils.serving_model_path(artifact_utils.get_single_uri(input_dict[MODEL]))
            with tempfile.TemporaryDirectory() as download:
                # MLflow reads local files; the artifact may lie in a bucket.
                model = str(Path(download, "model"))
                io_utils.copy_dir(exported, model)
                candidate = Candidate(
                    model=model,
                    classifier=None
                    if metrics.label_free
                    else Classifier(*evaluation_artifact.read_probe(evaluation), metrics.class_names),
                    metrics=metrics,
                    report=report,
                    settings=settings,
                    code=CodeVersion.model_validate_json(exec_properties[CODE]),
                    pipeline_run=run,
                    data_statistics=data_gate_artifact.read_statistics(
                        artifact_utils.get_single_uri(input_dict[DATA_CHECKS])
                    ),
                )
                pushed = push(registry, names.model_name, names.alias, candidate, names.serving_directory or None)
        record = _record(run, exec_properties[SETTINGS_FINGERPRINT], metrics, pushed)
        PipelineRuns(registry, names.model_name).record(record)
        result = Push(outcome=record.outcome)
        if pushed:
            version = pushed.version
            result = Push(
                pushed=True,
                changed=pushed.new or pushed.moved,
                outcome=record.outcome,
                name=version.name,
                version=version.version,
                uri=version.uri,
                alias=next((alias for alias in (names.alias, CHALLENGER) if alias in version.aliases), None),
                not_promoted=pushed.not_promoted,
                promotion=pushed.promotion,
                page=registry.page(version),
                served=pushed.served,
            )
            report = evaluation_artifact.released_report(
                report, version.name, version.version, version.uri, result.page, pushed.not_promoted
            )
        artifact.write(artifact_utils.get_single_uri(output_dict[artifact.PUSHED]), result, report)


def _record(run: str, settings_fingerprint: str, metrics: Metrics, pushed: Pushed | None) -> PipelineRun:
    if pushed is None:
        outcome, detail = pipeline_runs.NOT_BLESSED, " ".join(metrics.reasons)
    else:
        outcome = pushed.outcome
        detail = pushed.not_promoted or " ".join(check.sentence for check in metrics.checks)
    return PipelineRun(
        run=run,
        outcome=outcome,
        detail=detail,
        source=metrics.data,
        data=pipeline_runs.data_identity(metrics.data_fingerprint, metrics.labelled_fingerprint),
        settings_fingerprint=settings_fingerprint,
        version=pushed.version.version if pushed else None,
        probe_accuracy=metrics.probe_accuracy,
        probe_interval=metrics.probe_interval,
        compared_with=metrics.champion_version,
        anomalies=metrics.anomalies,
    )
