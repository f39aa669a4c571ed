"""The exit task of a run: tells the receivers how the run ended.

An exit task learns nothing from the other tasks. It reads the run's result from the registry, where DataResolver or
RegistryPusher recorded it; a run without a record has failed.
"""

import json
import os
import sys

from components.artifact_files import Content
from components.model_registry.pipeline_runs import PipelineRun, PipelineRuns
from components.model_registry.registry import ModelRegistry
from pipeline.config.notify import NotifySettings
from pipeline.kubeflow.parameters import PREFIX, REGISTRY_URI
from pipeline.notifications import sending
from pipeline.notifications.notice import Notice, event_of
from pipeline.terminal import process
from trainer.errors import SettingsError

#: Names of the task's parameters.
SETTINGS, PIPELINE_RUN = "settings", "pipeline_run"


class NotifierSettings(Content):
    """What the task is told when the pipeline is compiled.

    Attributes:
        pipeline: Name of the pipeline.
        model_name: Name of the registered model, under which the registry keeps the results of runs.
        receivers: The receivers of notifications. They name environment variables, never addresses.
    """

    pipeline: str
    model_name: str
    receivers: tuple[NotifySettings, ...]


def main() -> None:
    """Sends the notifications. Receivers that cannot be told are warnings in the log."""
    process.complete()
    values = json.loads(sys.argv[1])["inputs"]["parameterValues"]
    settings = NotifierSettings.model_validate_json(values[SETTINGS])
    if server := values[f"{PREFIX}{REGISTRY_URI}"]:
        os.environ["MLFLOW_TRACKING_URI"] = server
    try:
        sending.require_usable(settings.receivers)
    except SettingsError as error:
        # The other receivers are told nevertheless.
        print(f"Warning: {error}", file=sys.stderr)
    told = notice(settings, values[PIPELINE_RUN])
    print(told.text)
    for problem in sending.send(settings.receivers, told):
        print(f"Warning: {problem}", file=sys.stderr)


def notice(settings: NotifierSettings, run_id: str) -> Notice:
    """Returns what is told of a run.

    Args:
        settings: The settings of the task.
        run_id: Id of the run.
    """
    failed = Notice(event="failed", pipeline=settings.pipeline, run_id=run_id)
    try:
        registry = ModelRegistry("")
        found = PipelineRuns(registry, settings.model_name).find(run_id)
        if found is None:
            reason = "A step failed; the page of the run in Kubeflow Pipelines shows which."
            return failed.model_copy(update={"reason": reason}).with_text()
        version = registry.version(settings.model_name, found.version) if found.version else None
        page = registry.page(version) if version else None
    except Exception as error:
        reason = f"The registry, which keeps the results, cannot be read: {' '.join(str(error).split())}"
        return failed.model_copy(update={"reason": reason}).with_text()
    return _of_record(settings, found, version.uri if version else None, page)


def _of_record(settings: NotifierSettings, found: PipelineRun, version: str | None, page: str | None) -> Notice:
    return Notice(
        event=event_of(found.outcome),
        anomalies=found.anomalies,
        pipeline=settings.pipeline,
        run_id=found.run,
        reason=found.detail,
        source=found.source,
        measure="linear probe" if found.probe_accuracy is not None else None,
        accuracy=found.probe_accuracy,
        interval=found.probe_interval,
        version=version,
        page=page,
    ).with_text()


if __name__ == "__main__":
    main()
