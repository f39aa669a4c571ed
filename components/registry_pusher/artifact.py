"""The artifact `pushed_model` of RegistryPusher: `push.json`, and the report with the registry's version in it."""

from components import artifact_files
from components.artifact_files import Content
from components.linear_probe_evaluator.artifact import report_path, write_report

__all__ = ["PUSHED", "Push", "read", "report_path", "write"]

#: Key of the output channel.
PUSHED = "pushed_model"

_PUSH = "push.json"


class Push(Content):
    """What became of an encoder.

    Attributes:
        pushed: Whether the registry has it.
        changed: Whether the push registered a version or moved an alias.
        outcome: Outcome of the run, see `model_registry.pipeline_runs.PipelineRun`.
        name: Name of the registered model, if it was pushed.
        version: Number of the version.
        uri: URI of the version, as MLflow's clients take it.
        alias: Alias that points to the version: that of the champion, or `challenger`; None if neither does.
        not_promoted: Why the champion's alias does not point to the version.
        promotion: Command by which a person makes the version the champion, if that is for a person to decide.
        page: Address of the version's page on the MLflow server, if there is one.
        served: Folder or URI from which TensorFlow Serving serves the champion, if it is published.
    """

    pushed: bool = False
    changed: bool = False
    outcome: str = ""
    name: str | None = None
    version: int | None = None
    uri: str | None = None
    alias: str | None = None
    not_promoted: str | None = None
    promotion: str | None = None
    page: str | None = None
    served: str | None = None


def write(directory: str, push: Push, report: str) -> None:
    """Writes the artifact; `push.json`, which completes it, comes last."""
    write_report(directory, report)
    artifact_files.write_json(f"{directory}/{_PUSH}", push)


def read(directory: str) -> Push:
    """Reads `push.json`."""
    return artifact_files.read_json(f"{directory}/{_PUSH}", Push)
