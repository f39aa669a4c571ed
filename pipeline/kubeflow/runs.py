"""Runs on a host of Kubeflow Pipelines."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.config.kubeflow import STEPS
from pipeline.kubeflow.host import Host
from pipeline.kubeflow.package import Package

_FINAL_STATES = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        run_id: The id that Kubeflow Pipelines assigned.
        name: The name of the run.
        state: The state in the terms of Kubeflow Pipelines, such as `RUNNING` or `SUCCEEDED`.
        created: The time of creation.
        page: The address of the page of the run.
        failed_steps: The names of the steps that failed.
    """

    run_id: str
    name: str
    state: str
    created: datetime | None
    page: str
    failed_steps: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in _FINAL_STATES

    @property
    def outcome(self) -> str:
        """The state in words, with the steps that failed."""
        return f"{self.state.lower()}: {', '.join(self.failed_steps)}" if self.failed_steps else self.state.lower()


class Runs:
    """The runs of a host.

    Args:
        host: The host of Kubeflow Pipelines.
    """

    def __init__(self, host: Host):
        self._host = host

    def submit(
        self, package: Package, arguments: dict[str, Any], experiment: str, service_account: str | None = None
    ) -> Run:
        """Starts a run of a package, which is uploaded as a version of its pipeline.

        Args:
            package: The compiled pipeline.
            arguments: The values of the run's parameters.
            experiment: The experiment of the run. It is created if it is missing.
            service_account: The Kubernetes service account of the steps; by default that of the host.

        Raises:
            UserError: If the host refuses the run or runs a version of Kubeflow Pipelines that is too old.
        """
        import kfp_server_api as api

        version = self._host.upload(package)
        client = self._host.client
        with self._host.understandable():
            # The client's own methods for this take no description.
            run = api.V2beta1Run(
                experiment_id=client.create_experiment(experiment, namespace=self._host.namespace).experiment_id,
                display_name=f"{package.name} {datetime.now():%Y-%m-%d %H:%M:%S}",
                description=package.description,
                pipeline_version_reference=api.V2beta1PipelineVersionReference(
                    pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
                ),
                # The host does not read the root in the package.
                runtime_config=api.V2beta1RuntimeConfig(parameters=arguments, pipeline_root=package.pipeline_root),
                service_account=service_account,
            )
            created = client.runs.run_service_create_run(run=run)
        return self._run(created)

    def follow(
        self, run_id: str, tasks: frozenset[str], on_change: Callable[[str, str], None], interval_seconds: float = 10.0
    ) -> Run:
        """Waits until a run has ended.

        Args:
            run_id: The id of the run.
            tasks: The names of the steps to report. Kubeflow Pipelines lists its own helper tasks too.
            on_change: Called with the name and the state of a step whenever the state changes.
            interval_seconds: Seconds between two requests to the host.

        Returns:
            The run in its final state.
        """
        states: dict[str, str] = {}
        while True:
            with self._host.understandable():
                response = self._host.client.get_run(run_id)
            for name, state in _task_states(response):
                if name in tasks and state and states.get(name) != state:
                    states[name] = state
                    on_change(name, state)
            run = self._run(response)
            if run.ended:
                return run
            time.sleep(interval_seconds)

    def newest(self, experiment: str | None, most: int) -> list[Run]:
        """Lists the newest runs, newest first.

        Args:
            experiment: The name of an experiment; None for the runs of all experiments.
            most: The maximum number of runs.
        """
        namespace = self._host.namespace
        with self._host.understandable():
            experiment_id = None
            if experiment:
                found = self._host.client.get_experiment(experiment_name=experiment, namespace=namespace)
                experiment_id = found.experiment_id
            response = self._host.client.list_runs(
                page_size=most, sort_by="created_at desc", experiment_id=experiment_id, namespace=namespace
            )
        return [self._run(run) for run in response.runs or []]

    def _run(self, run: Any) -> Run:
        page = f"{self._host.address}/#/runs/details/{run.run_id}"
        # A step that was retried has failed only if its last attempt did.
        states = {name: state for name, state in _task_states(run) if name in STEPS}
        failed = tuple(name for name, state in states.items() if state == "FAILED")
        return Run(run.run_id, run.display_name, run.state or "PENDING", run.created_at, page, failed)


def _task_states(run: Any) -> Iterator[tuple[str, str | None]]:
    """Yields name and state of the tasks of a run, as the kfp client describes them."""
    for detail in (run.run_details.task_details if run.run_details else None) or []:
        yield detail.display_name, detail.state
