"""What each run of the pipeline came to, and on which data: the memory of scheduled retraining.

MLflow keeps it, in an experiment beside the model's own: encoders that were refused have no version to hold it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from components.model_registry.registry import ModelRegistry, all_pages

if TYPE_CHECKING:
    from mlflow.entities import Run

RELEASED, UNCHANGED, NOT_PROMOTED, NOT_BLESSED = "released", "unchanged", "not promoted", "not blessed"
NOTHING_NEW, FAILED = "nothing new", "failed"
# Outcomes that would be the same if the run were repeated; one that stood back is to be compared anew.
_SETTLED = (RELEASED, UNCHANGED, NOT_BLESSED)
# Of the names of their experiments.
_SUFFIX = " pipeline runs"
# The longest value of a tag that MLflow takes everywhere.
_LONGEST_TAG = 5_000


@dataclass(frozen=True)
class PipelineRun:
    """One run of the pipeline.

    Attributes:
        run: its identity, as the orchestrator gave it.
        outcome: `released`, `unchanged` (the registry had the encoder), `not promoted` (another one was pushed during
            the run), `not blessed`, `nothing new` (nothing was trained) or `failed`.
        detail: why, in a sentence.
        source: place of the images.
        data: identity of the images, see `data_identity`.
        settings_fingerprint: Fingerprint of the settings that decide on the encoder.
        version: of the registry, if any.
        probe_accuracy: of the encoder, if it was measured.
        compared_with: version of the champion that the encoder was compared with, if there was one.
        at: when it ended, UTC.
    """

    run: str
    outcome: str
    detail: str = ""
    source: str = ""
    data: str = ""
    settings_fingerprint: str = ""
    version: int | None = None
    probe_accuracy: float | None = None
    compared_with: int | None = None
    at: datetime | None = None


def data_identity(fingerprint: str, labelled_fingerprint: str | None) -> str:
    """Changes when the images do, those to train on or those to measure with."""
    return f"{fingerprint}.{labelled_fingerprint or fingerprint}"


class PipelineRuns:
    """The pipeline's runs for one registered model.

    Args:
        registry: that keeps them.
        model_name: of the registered model; it need not exist yet.
    """

    def __init__(self, registry: ModelRegistry, model_name: str):
        self._registry, self._experiment = registry, f"{model_name}{_SUFFIX}"

    @staticmethod
    def model_names(registry: ModelRegistry) -> list[str]:
        """The models that the pipeline ran for, released or not."""
        with registry.understandable():
            names = [experiment.name for experiment in all_pages(registry.client.search_experiments)]
        return sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))

    def record(self, run: PipelineRun) -> None:
        """Adds a run."""
        tags = {
            **{"outcome": run.outcome, "detail": run.detail, "source": run.source, "data": run.data},
            **{
                "recipe": run.settings_fingerprint,
                "version": str(run.version or ""),
                "compared_with": str(run.compared_with or ""),
            },
            # MLflow's searches know no "one of these" for tags.
            "settled": "yes" if run.outcome in _SETTLED else "",
        }
        with self._registry.understandable():
            client = self._registry.client
            made = client.create_run(
                self._registry.experiment(self._experiment),
                tags={key: value[:_LONGEST_TAG] for key, value in tags.items() if value},
                run_name=run.run,
            )
            if run.probe_accuracy is not None:
                client.log_metric(made.info.run_id, "probe_accuracy", run.probe_accuracy)
            client.set_terminated(made.info.run_id, "FAILED" if run.outcome == FAILED else "FINISHED")

    def newest(self, most: int = 20) -> list[PipelineRun]:
        """The newest runs, the newest first."""
        return self._found("", most)

    def settled(self, data: str, recipe: str, champion: int | None) -> PipelineRun | None:
        """The newest run on these images by this recipe that would come to the same if it were repeated.

        Args:
            data: identity of the images, see `data_identity`.
            recipe: identity of the settings.
            champion: version of the present champion. An encoder that was not blessed beside another one is judged
                anew.
        """
        condition = f"tags.data = '{data}' and tags.recipe = '{recipe}' and tags.settled = 'yes'"
        newest = next(iter(self._found(condition, 1)), None)
        if newest and newest.outcome == NOT_BLESSED and newest.compared_with != champion:
            return None
        return newest

    def _found(self, condition: str, most: int) -> list[PipelineRun]:
        with self._registry.understandable():
            client = self._registry.client
            experiment = client.get_experiment_by_name(self._experiment)
            if experiment is None:
                return []
            found = client.search_runs(
                [experiment.experiment_id], condition, max_results=most, order_by=["attributes.start_time DESC"]
            )
        return [_from_mlflow(run) for run in found]


def _from_mlflow(run: "Run") -> PipelineRun:
    tags = run.data.tags
    version, compared_with = tags.get("version"), tags.get("compared_with")
    return PipelineRun(
        run=run.info.run_name or run.info.run_id,
        outcome=tags["outcome"],
        detail=tags.get("detail", ""),
        source=tags.get("source", ""),
        data=tags.get("data", ""),
        settings_fingerprint=tags.get("recipe", ""),
        version=int(version) if version else None,
        probe_accuracy=run.data.metrics.get("probe_accuracy"),
        compared_with=int(compared_with) if compared_with else None,
        at=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
    )
