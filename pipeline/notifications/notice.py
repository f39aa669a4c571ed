"""What a notification says."""

from components.artifact_files import Content
from components.linear_probe_evaluator.artifact import Interval
from components.model_registry import pipeline_runs
from pipeline.config.notify import ANOMALY, Event, NotifySettings

_EVENTS: dict[str, Event] = {
    pipeline_runs.RELEASED: "released",
    pipeline_runs.CHALLENGER: "challenger",
    pipeline_runs.NOT_PROMOTED: "not_promoted",
    pipeline_runs.UNCHANGED: "unchanged",
    pipeline_runs.NOT_BLESSED: "refused",
    pipeline_runs.NOTHING_NEW: "nothing_new",
    pipeline_runs.FAILED: "failed",
}
_HEADLINES: dict[Event, str] = {
    "released": "the encoder was released",
    "challenger": "the encoder waits for approval",
    "not_promoted": "the encoder was registered, but did not become the champion",
    "unchanged": "the registry has the encoder already",
    "refused": "the encoder is not blessed",
    "nothing_new": "there was nothing new to train on",
    "failed": "the run failed",
}


class Notice(Content):
    """How a run ended and where to look. What is not known is None.

    Attributes:
        text: The most important of it in a few sentences, for people.
        event: How the run ended, see `NotifySettings.on`; never `anomaly`.
        anomalies: What DataGate found wrong with the images, a sentence for each finding.
        pipeline: Name of the pipeline.
        run_id: Id of the run.
        reason: Why the run ended so, in sentences.
        source: Path or URI of the images.
        measure: What `accuracy` is: `linear probe`, or `neighbour consistency` if there are no labels.
        accuracy: The encoder's main figure, a share.
        interval: Its 95 % interval.
        version: URI of the registered version, as MLflow's clients take it.
        page: Address of the version's page on the MLflow server.
        machine: Name of the machine on which the report and the log are.
        report: Path of the run's report.
        log: Path of the run's log.
    """

    text: str = ""
    event: Event
    anomalies: tuple[str, ...] = ()
    pipeline: str
    run_id: str | None = None
    reason: str = ""
    source: str | None = None
    measure: str | None = None
    accuracy: float | None = None
    interval: Interval | None = None
    version: str | None = None
    page: str | None = None
    machine: str | None = None
    report: str | None = None
    log: str | None = None

    def with_text(self) -> "Notice":
        """Returns the notice with its `text`."""
        run = f", run {self.run_id}" if self.run_id else ""
        sentences = [f"Pipeline {self.pipeline}{run}: {_HEADLINES[self.event]}."]
        if self.version:
            sentences.append(f"Version: {self.version}.")
        if self.accuracy is not None and self.measure:
            interval = f" (95 % interval {self.interval[0]:.1%} to {self.interval[1]:.1%})" if self.interval else ""
            sentences.append(f"{self.measure.capitalize()}: {self.accuracy:.1%}{interval}.")
        sentences += [self.reason] if self.reason else []
        # The reason of a run that DataGate stopped consists of the findings.
        sentences += [f"Finding: {anomaly}" for anomaly in self.anomalies if anomaly not in self.reason]
        # On lines of their own, so that chats recognise addresses.
        places = [f"{name}: {where}" for name, where in self._places() if where]
        return self.model_copy(update={"text": "\n".join([" ".join(sentences), *places])})

    def concerns(self, receiver: NotifySettings) -> bool:
        """Returns whether a receiver is to be told."""
        return self.event in receiver.on or (ANOMALY in receiver.on and bool(self.anomalies))

    def _places(self) -> list[tuple[str, str | None]]:
        return [("Registry", self.page), ("Report", self.report), ("Log", None if self.report else self.log)]


def event_of(outcome: str) -> Event:
    """Returns the event of a run's outcome, see `pipeline_runs.PipelineRun`."""
    return _EVENTS[outcome]
