"""Follows a run of the pipeline in MLflow while it goes on: settings, curves, the machine's load, the report.

A thread of its own sends everything, from a queue of limited length: a server that is slow or down delays nothing.
"""

import logging
import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainer import progress

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

logger = logging.getLogger("nnclr")

# Measurements that wait for a server that does not answer. A measurement has about ten figures.
_MOST_ROWS = 1_000
# Seconds between two looks into the queue; between two measurements of the machine's load, and between two tries of a
# server that failed; and seconds that the end of a run waits for what is still to be sent.
_SHORT_PAUSE, _LONG_PAUSE, _LAST_SECONDS = 1.0, 10.0, 10.0
# What MLflow's servers accept in one request.
_MOST_METRICS, _MOST_PARAMETERS, _LONGEST_PARAMETER = 1_000, 100, 6_000
# MLflow's page shows metrics with this prefix on a tab of their own.
_SYSTEM = "system/"


class LiveRun:
    """Sends what happens in a run to its MLflow run. What the server does not take is one warning, never an exception.

    Args:
        client: A client of the tracking server.
        run_id: Id of the MLflow run, which exists.
        parameters: The settings of the run by name.
    """

    def __init__(self, client: "MlflowClient", run_id: str, parameters: Mapping[str, object]):
        self._client, self._run_id = client, run_id
        self._parameters = {name: str(value)[:_LONGEST_PARAMETER] for name, value in parameters.items()}
        self._rows: queue.Queue[tuple[int, dict[str, float]]] = queue.Queue(_MOST_ROWS)
        self._unsent: list[Metric] = []
        # Steps whose metrics MLflow has from before an interruption; None until the server has said.
        self._known: set[int] | None = None
        # The start of the MLflow run in milliseconds since 1970.
        self._started = 0
        self._report: Path | None = None
        self._closing, self._warned = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="live run", daemon=True)
        self._thread.start()

    def __call__(self, row: dict[str, float]) -> None:
        """Takes the metrics of one step of the training, see `trainer.observing.Observer`; returns at once."""
        try:
            self._rows.put_nowait((_now(), row))
        except queue.Full:
            self._warn("MLflow does not answer for so long that metrics of the training are lost there.")

    def close(self, report: Path | None = None) -> None:
        """Ends sending, after some seconds at most.

        Args:
            report: The report of the run, which becomes an artifact of the MLflow run.
        """
        self._report = report
        self._closing.set()
        self._thread.join(_LAST_SECONDS)
        if self._thread.is_alive() or self._unsent or self._parameters or self._report:
            self._warn("MLflow did not take all metrics and the report of the run.")

    def _work(self) -> None:
        load_due = 0.0
        while True:
            # Asked before sending, so that what came before the end is sent.
            closing = self._closing.is_set()
            if self._known is not None and time.monotonic() >= load_due and len(self._unsent) < _MOST_METRICS:
                self._unsent += self._load()
                load_due = time.monotonic() + _LONG_PAUSE
            pause = _SHORT_PAUSE
            try:
                self._send()
                if closing and self._report:
                    self._client.log_artifact(self._run_id, str(self._report))
                    self._report = None
            except Exception as error:
                # What was not sent is kept and tried again.
                self._warn(f"MLflow does not take the metrics of the training at present ({type(error).__name__}).")
                pause = _LONG_PAUSE
            if closing:
                return
            self._closing.wait(pause)

    def _send(self) -> None:
        from mlflow.entities import Param

        if self._known is None:
            stored = self._client.get_run(self._run_id)
            known = stored.data.params
            self._parameters = {name: text for name, text in self._parameters.items() if name not in known}
            self._started = stored.info.start_time
            # Each measurement has this figure.
            self._known = {metric.step for metric in self._client.get_metric_history(self._run_id, "rank_me")}
        while self._parameters:
            names = list(self._parameters)[:_MOST_PARAMETERS]
            self._client.log_batch(self._run_id, params=[Param(name, self._parameters[name]) for name in names])
            self._parameters = {name: text for name, text in self._parameters.items() if name not in names}
        while True:
            while len(self._unsent) < _MOST_METRICS and not self._rows.empty():
                self._unsent += self._metrics(*self._rows.get_nowait())
            if not self._unsent:
                return
            batch = self._unsent[:_MOST_METRICS]
            # MLflow keeps a metric with the same time and value once, so that a repeated request doubles nothing.
            self._client.log_batch(self._run_id, metrics=batch)
            del self._unsent[: len(batch)]

    def _metrics(self, at: int, row: dict[str, float]) -> "list[Metric]":
        from mlflow.entities import Metric

        step = int(row["step"])
        if self._known is None or step in self._known:
            # A resumed training shows its earlier measurements again.
            return []
        return [Metric(name, value, at, step) for name, value in row.items() if name != "step"]

    def _load(self) -> "list[Metric]":
        """Measures the load of the machine's processors and memory. Its step is the age of the run in seconds."""
        from mlflow.entities import Metric
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor

        monitor = CPUMonitor()
        monitor.collect_metrics()
        now = _now()
        # MLflow draws no curve of metrics that all have the same step.
        step = (now - self._started) // 1000
        return [Metric(f"{_SYSTEM}{name}", value, now, step) for name, value in monitor.aggregate_metrics().items()]

    def _warn(self, sentence: str) -> None:
        """Shows the first problem on the screen, and further ones nowhere."""
        if not self._warned:
            self._warned = True
            progress.logger.warning("%s The run goes on.", sentence)


def _now() -> int:
    """Returns the time in milliseconds since 1970."""
    return int(time.time() * 1000)
