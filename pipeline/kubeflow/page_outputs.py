"""Outputs for the web page of a run on Kubeflow Pipelines: metrics, confusion matrix, report and registered model.

TFX does not know them, because they have types of KFP: the compiled pipeline declares them, and the entry point writes
them after TFX has run the component. Sources: `kfp.dsl.types.artifact_types` for the metadata of each type;
`MetricsVisualizations.tsx` and `backend/src/v2/metadata/converter.go` of kubeflow/pipelines for what the page shows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from components import artifact_files
from components.linear_probe_evaluator import artifact as evaluation_artifact
from components.registry_pusher import artifact as push_artifact
from pipeline.kubeflow.invocation import Message, local_path
from trainer.results import FIGURES_FILE, TrainingFigures

# The paths or URIs at which TFX wrote a component's outputs, by name.
_Directories = Mapping[str, str]


@dataclass(frozen=True)
class _Content:
    """The content of an output: its metadata, its file, and its URI if it lies outside of the run's artifacts."""

    metadata: dict[str, Any] = field(default_factory=dict)
    file: str | None = None
    uri: str | None = None


def _training(directories: _Directories) -> _Content:
    figures = artifact_files.read_json(f"{directories['model_run']}/{FIGURES_FILE}", TrainingFigures)
    return _Content(_known(figures.model_dump()))


def _accuracy(directories: _Directories) -> _Content:
    metrics = evaluation_artifact.read_metrics(directories[evaluation_artifact.EVALUATION])
    names = ("blessed", "probe_accuracy", "knn_accuracy", "untrained_accuracy", "champion_accuracy")
    return _Content(
        _known({name: getattr(metrics, name) for name in (*names, "fine_tuned_accuracy", "rank_me")})
        | {split: float(images) for split, images in metrics.counts.items()}
        | (metrics.label_free.candidate.model_dump(exclude={"interval"}) if metrics.label_free else {})
    )


def _confusion_matrix(directories: _Directories) -> _Content:
    metrics = evaluation_artifact.read_metrics(directories[evaluation_artifact.EVALUATION])
    if not metrics.confusion:
        return _Content()
    matrix = {
        "annotationSpecs": [{"displayName": name} for name in metrics.class_names],
        "rows": [{"row": list(row)} for row in metrics.confusion],
    }
    return _Content({"confusionMatrix": matrix})


def _registered_model(directories: _Directories) -> _Content:
    push = push_artifact.read(directories[push_artifact.PUSHED])
    # The page links a URI that is an address of a web page.
    return _Content(_known(push.model_dump()), uri=push.page or push.uri)


def _report(artifact: str) -> Callable[[_Directories], _Content]:
    return lambda directories: _Content(file=evaluation_artifact.read_report(directories[artifact]))


# By component and name: the type, and what gives the content.
_OUTPUTS: dict[str, dict[str, tuple[str, Callable[[_Directories], _Content]]]] = {
    "Trainer": {"training": ("Metrics", _training)},
    "LinearProbeEvaluator": {
        "accuracy": ("Metrics", _accuracy),
        "confusion_matrix": ("ClassificationMetrics", _confusion_matrix),
        "report": ("HTML", _report(evaluation_artifact.EVALUATION)),
    },
    "RegistryPusher": {
        "registered_model": ("Model", _registered_model),
        # The same page, with the version that the encoder became.
        "report": ("HTML", _report(push_artifact.PUSHED)),
    },
}


def declare(spec: dict[str, Any]) -> None:
    """Adds the outputs to the components of a pipeline spec."""
    for component, outputs in _OUTPUTS.items():
        declared = spec["components"][component].setdefault("outputDefinitions", {}).setdefault("artifacts", {})
        for name, (kind, _) in outputs.items():
            declared[name] = {"artifactType": {"schemaTitle": f"system.{kind}", "schemaVersion": "0.0.1"}}


def write(component: str, uris: Mapping[str, str], directories: _Directories) -> Message:
    """Writes the files of a component's outputs for the page.

    Args:
        component: The id of the component.
        uris: The URI that the launcher gave to each output.
        directories: The paths or URIs at which TFX wrote its outputs, by name.

    Returns:
        The artifacts by name, as in an ExecutorOutput.
    """
    artifacts = {}
    for name, (_, make) in _OUTPUTS.get(component, {}).items():
        content = make(directories)
        if content.file is not None:
            artifact_files.write(local_path(uris[name]), content.file.encode())
        artifacts[name] = {"artifacts": [{"uri": content.uri or uris[name], "metadata": content.metadata}]}
    return artifacts


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that are not null, which the launcher refuses in metadata."""
    return {name: value for name, value in values.items() if value is not None}
