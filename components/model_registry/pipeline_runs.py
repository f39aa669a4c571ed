"""The results of the pipeline's runs, and the data of each; scheduled retraining decides by them.

MLflow keeps them as runs of an experiment of their own, because an encoder that was not blessed has no version to hold
its result.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from components.model_registry.paging import all_pages
from components.model_registry.registry import ModelRegistry

if TYPE_CHECKING:
    from mlflow.entities import Run

RELEASED, UNCHANGED, NOT_PROMOTED, NOT_BLESSED = "released", "unchanged", "not promoted", "not blessed"
CHALLENGER, NOTHING_NEW, FAILED = "challenger", "nothing new", "failed"
RUNNING, STOPPED = "running", "stopped"
# Outcomes that a repeated run would have again. A run that was not promoted is repeated: it must be compared with the
# new champion.
_SETTLED = (RELEASED, CHALLENGER, UNCHANGED, NOT_BLESSED)
# Outcomes under the names that earlier releases of nnclr stored.
_FORMER_OUTCOMES = {"stood back": NOT_PROMOTED}

# The key of the MLflow tag for `PipelineRun.settings_fingerprint`. It keeps its first name: with another one, the runs
# that existing registries hold would no longer match, and schedules would train again.
_SETTINGS_FINGERPRINT = "recipe"
# The key of the MLflow tag of a run that has no result yet: the place where it goes on, see `PipelineRuns.start`.
_UNFINISHED = "unfinished_in"
# The end of the names of the experiments that hold pipeline runs.
_EXPERIMENT_SUFFIX = " pipeline runs"
# The keys of the metrics for `PipelineRun.probe_interval`.
_LOW, _HIGH = "probe_interval_low", "probe_interval_high"
# The longest value of a tag that every MLflow store accepts, in characters.
_LONGEST_TAG = 5_000


@dataclass(frozen=True)
class PipelineRun:
    """The result of one run of the pipeline.

    Attributes:
        run: The run's id, from the orchestrator.
        outcome: `released`, `challenger` (the encoder waits for approval), `unchanged` (the registry already had the
            encoder), `not promoted` (the alias stayed where it was, because it had moved during the run), `not
            blessed`, `nothing new` (nothing was trained) or `failed`; before it has a result, `running` or `stopped`.
        detail: The reason for the outcome, a sentence.
        source: The path or URI of the images.
        data: The identity of the images, from `data_identity`.
        settings_fingerprint: The identity of the settings that decide on the encoder.
        version: The number of the encoder's version in the registry, if any.
        probe_accuracy: The accuracy of the encoder, if it was measured.
        compared_with: The number of the champion's version that the encoder was compared with, if any.
        probe_interval: The accuracy's 95 % interval, if it was measured.
        anomalies: What DataGate found wrong with the images, a sentence for each finding.
        at: The time at which the run's result was recorded, or at which a run without a result started, in UTC; None
            for a run that is not recorded yet.
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
    probe_interval: tuple[float, float] | None = None
    anomalies: tuple[str, ...] = ()
    at: datetime | None = None


def data_identity(fingerprint: str, labelled_fingerprint: str | None) -> str:
    """Returns an identity that changes with the images to train on and with those to measure on.

    Args:
        fingerprint: The fingerprint of the source.
        labelled_fingerprint: The fingerprint of the labelled set, if it is not part of the source.
    """
    return f"{fingerprint}.{labelled_fingerprint or fingerprint}"


class PipelineRuns:
    """The recorded pipeline runs for one registered model.

    Args:
        registry: The registry that keeps the records.
        model_name: The name of the registered model, which need not exist yet.
    """

    def __init__(self, registry: ModelRegistry, model_name: str):
        self._connection, self._experiment = registry.connection, f"{model_name}{_EXPERIMENT_SUFFIX}"

    @staticmethod
    def model_names(registry: ModelRegistry) -> list[str]:
        """Returns the names of the models that the pipeline ran for, released or not, sorted."""
        with registry.connection.readable_errors():
            experiments = all_pages(registry.connection.client.search_experiments)
        names = [experiment.name for experiment in experiments]
        return sorted(name.removesuffix(_EXPERIMENT_SUFFIX) for name in names if name.endswith(_EXPERIMENT_SUFFIX))

    def start(self, run: PipelineRun, place: str) -> str:
        """Records that a run has started; `record` completes this record.

        If a run of the same images and settings was interrupted at the same place, its record goes on.

        Args:
            run: The run: its id, its images and its settings.
            place: An identity of the place, at which only one run goes on at a time; it contains no quotation mark.

        Returns:
            The id of the MLflow run.
        """
        tags = {
            "source": run.source[:_LONGEST_TAG],
            "data": run.data,
            _SETTINGS_FINGERPRINT: run.settings_fingerprint,
            _UNFINISHED: place,
        }
        with self._connection.readable_errors():
            client, experiment = self._connection.client, self._connection.experiment_id(self._experiment)
            same = None
            for earlier in client.search_runs([experiment], f"tags.{_UNFINISHED} = '{place}'"):
                if same is None and all(earlier.data.tags.get(key) == value for key, value in tags.items()):
                    same = earlier.info.run_id
                    client.update_run(same, status="RUNNING", name=run.run)
                else:
                    # It was killed, and another run took its place.
                    client.delete_tag(earlier.info.run_id, _UNFINISHED)
                    client.set_terminated(earlier.info.run_id, "KILLED")
            return same or client.create_run(experiment, tags=tags, run_name=run.run).info.run_id

    def unfinished(self, place: str) -> PipelineRun | None:
        """Returns the run that has started at a place, see `start`, and has no result yet."""
        return next(iter(self._search(f"tags.{_UNFINISHED} = '{place}'", 1)), None)

    def stop(self, mlflow_run: str) -> None:
        """Records that a run was stopped. It goes on when the same run is started at the same place.

        Args:
            mlflow_run: The id of the MLflow run, from `start`.
        """
        with self._connection.readable_errors():
            self._connection.client.set_terminated(mlflow_run, "KILLED")

    def record(self, run: PipelineRun) -> None:
        """Records the result of a run; its `at` is not used."""
        from mlflow.entities import RunTag

        tags = {
            "outcome": run.outcome,
            "detail": run.detail,
            "source": run.source,
            "data": run.data,
            _SETTINGS_FINGERPRINT: run.settings_fingerprint,
            "version": str(run.version or ""),
            "compared_with": str(run.compared_with or ""),
            "anomalies": "\n".join(run.anomalies),
            # MLflow's searches cannot ask whether a tag has one of several values.
            "settled": "yes" if run.outcome in _SETTLED else "",
        }
        with self._connection.readable_errors():
            client, experiment = self._connection.client, self._connection.experiment_id(self._experiment)
            known = {key: value[:_LONGEST_TAG] for key, value in tags.items() if value}
            condition = f"attributes.run_name = '{run.run}' and tags.{_UNFINISHED} != ''"
            started = next(iter(client.search_runs([experiment], condition, max_results=1)), None)
            if started:
                client.log_batch(started.info.run_id, tags=[RunTag(key, value) for key, value in known.items()])
                client.delete_tag(started.info.run_id, _UNFINISHED)
            stored = started or client.create_run(experiment, tags=known, run_name=run.run)
            low, high = run.probe_interval or (None, None)
            figures = {"probe_accuracy": run.probe_accuracy, _LOW: low, _HIGH: high}
            for name, value in figures.items():
                if value is not None:
                    client.log_metric(stored.info.run_id, name, value)
            client.set_terminated(stored.info.run_id, "FAILED" if run.outcome == FAILED else "FINISHED")

    def newest(self, limit: int = 20) -> list[PipelineRun]:
        """Returns the newest runs, newest first."""
        return self._search("", limit)

    def find(self, run: str) -> PipelineRun | None:
        """Returns the newest record of a run with an id, if there is one."""
        return next(iter(self._search(f"attributes.run_name = '{run}'", 1)), None)

    def settled(self, data: str, settings_fingerprint: str, champion: int | None) -> PipelineRun | None:
        """Returns the newest run with the same images and settings whose outcome a repeated run would have again.

        Args:
            data: The identity of the images, from `data_identity`.
            settings_fingerprint: The identity of the settings.
            champion: The number of the present champion's version, if any. An encoder that was not blessed in
                comparison with another champion may be blessed now.
        """
        condition = f"tags.data = '{data}' and tags.{_SETTINGS_FINGERPRINT} = '{settings_fingerprint}'"
        newest = next(iter(self._search(f"{condition} and tags.settled = 'yes'", 1)), None)
        if newest and newest.outcome == NOT_BLESSED and newest.compared_with != champion:
            return None
        return newest

    def _search(self, condition: str, limit: int) -> list[PipelineRun]:
        with self._connection.readable_errors():
            client = self._connection.client
            experiment = client.get_experiment_by_name(self._experiment)
            if experiment is None:
                return []
            stored = client.search_runs(
                [experiment.experiment_id], condition, max_results=limit, order_by=["attributes.start_time DESC"]
            )
        return [_from_mlflow(run) for run in stored]


def _from_mlflow(stored: "Run") -> PipelineRun:
    tags = stored.data.tags
    version, compared_with = tags.get("version"), tags.get("compared_with")
    metrics = stored.data.metrics
    outcome = tags.get("outcome", RUNNING if stored.info.status == "RUNNING" else STOPPED)
    return PipelineRun(
        run=stored.info.run_name or stored.info.run_id,
        outcome=_FORMER_OUTCOMES.get(outcome, outcome),
        detail=tags.get("detail", ""),
        source=tags.get("source", ""),
        data=tags.get("data", ""),
        settings_fingerprint=tags.get(_SETTINGS_FINGERPRINT, ""),
        version=int(version) if version else None,
        probe_accuracy=metrics.get("probe_accuracy"),
        probe_interval=(metrics[_LOW], metrics[_HIGH]) if _LOW in metrics and _HIGH in metrics else None,
        compared_with=int(compared_with) if compared_with else None,
        anomalies=tuple(tags.get("anomalies", "").splitlines()),
        at=datetime.fromtimestamp((stored.info.end_time or stored.info.start_time) / 1000, UTC),
    )
