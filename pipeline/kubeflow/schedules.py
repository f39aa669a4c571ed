"""Recurring runs on a host of Kubeflow Pipelines."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline import cron
from pipeline.kubeflow.host import Host
from pipeline.kubeflow.package import Package
from trainer.errors import SettingsError, UserError

_PAGE_SIZE = 100


@dataclass(frozen=True)
class Schedule:
    """A recurring run.

    Attributes:
        schedule_id: The id that Kubeflow Pipelines assigned.
        name: The name of the schedule.
        cron: The cron expression, with five fields if its seconds are 0.
        enabled: Whether the schedule starts runs.
        created: The time of creation.
        page: The address of the page of the schedule.
    """

    schedule_id: str
    name: str
    cron: str
    enabled: bool
    created: datetime | None
    page: str


class Schedules:
    """The recurring runs of a host.

    Args:
        host: The host of Kubeflow Pipelines.
    """

    def __init__(self, host: Host):
        self._host = host

    def create(
        self,
        name: str,
        expression: str,
        package: Package,
        arguments: dict[str, Any],
        experiment: str,
        service_account: str | None = None,
    ) -> Schedule:
        """Uploads a package as a version of its pipeline, and creates a schedule of this version.

        Runs of the schedule never overlap; of the missed times, only the latest runs.

        The version is named because Kubeflow Pipelines, up to 2.16, does not count the runs of a schedule that follows
        the newest version of a pipeline: they would overlap.

        Args:
            name: The name of the schedule, which must be unique on the host.
            expression: The cron expression of five fields, in the time zone of the host.
            package: The compiled pipeline to run.
            arguments: The values of the parameters of each run.
            experiment: The experiment of the runs. It is created if it is missing.
            service_account: The Kubernetes service account of the steps; by default that of the host.

        Raises:
            SettingsError: If a schedule of this name already exists, or if the host does not support the expression.
            UserError: If the host ignores the service account, or runs a version of Kubeflow Pipelines that is too
                old.
        """
        if any(schedule.name == name for schedule in self.list()):
            raise SettingsError(f"The schedule {name} already exists: delete it first, or choose another --name.")
        version = self._host.upload(package)
        with self._host.understandable():
            client = self._host.client
            created = client.create_recurring_run(
                experiment_id=client.create_experiment(experiment, namespace=self._host.namespace).experiment_id,
                job_name=name,
                description=package.description,
                cron_expression=cron.to_kubeflow(expression),
                max_concurrency=1,
                no_catchup=True,
                params=arguments,
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                service_account=service_account,
                # The host does not read the root in the package.
                pipeline_root=package.pipeline_root,
            )
        self._require_service_account(created, service_account)
        return self._schedule(created)

    def _require_service_account(self, created: Any, wanted: str | None) -> None:
        """Deletes a new schedule whose runs would use another service account than the one asked for."""
        used = created.service_account
        if not wanted or not used or used == wanted:
            return
        with self._host.understandable():
            self._host.client.delete_recurring_run(created.recurring_run_id)
        raise UserError(
            f"{self._host.address} would run the schedule with the service account {used} instead of {wanted}, as "
            f"Kubeflow Pipelines up to 2.16 does, so no schedule was created. Give {used} the permissions of {wanted} "
            f"(see infra/README.md) and name --service-account {used}, or upgrade Kubeflow Pipelines."
        )

    def list(self) -> list[Schedule]:
        """Lists all schedules, newest first."""
        with self._host.understandable():
            recurring_runs: list[Any] = []
            token = ""
            while True:
                page = self._host.client.list_recurring_runs(
                    page_token=token, page_size=_PAGE_SIZE, sort_by="created_at desc", namespace=self._host.namespace
                )
                recurring_runs += page.recurring_runs or []
                token = page.next_page_token or ""
                if not token:
                    break
        return [self._schedule(run) for run in recurring_runs if run.trigger and run.trigger.cron_schedule]

    def find(self, name: str) -> Schedule:
        """Finds a schedule by its name or id.

        Raises:
            SettingsError: If no schedule or more than one schedule matches.
        """
        schedules = self.list()
        matches = [schedule for schedule in schedules if name in (schedule.schedule_id, schedule.name)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            ids = ", ".join(schedule.schedule_id for schedule in matches)
            raise SettingsError(f"{len(matches)} schedules are called {name}: name one of the ids {ids}.")
        names = ", ".join(schedule.name for schedule in schedules) or "none"
        raise SettingsError(f"There is no schedule {name}. Existing schedules: {names}.")

    def switch(self, schedule: Schedule, on: bool) -> None:
        """Enables or disables a schedule."""
        client = self._host.client
        with self._host.understandable():
            (client.enable_recurring_run if on else client.disable_recurring_run)(schedule.schedule_id)

    def delete(self, schedule: Schedule) -> None:
        """Deletes a schedule, but not its runs."""
        with self._host.understandable():
            self._host.client.delete_recurring_run(schedule.schedule_id)

    def _schedule(self, recurring_run: Any) -> Schedule:
        page = f"{self._host.address}/#/recurringrun/details/{recurring_run.recurring_run_id}"
        return Schedule(
            recurring_run.recurring_run_id,
            recurring_run.display_name,
            cron.from_kubeflow(recurring_run.trigger.cron_schedule.cron),
            (recurring_run.status or recurring_run.mode or "") in ("ENABLED", "ENABLE"),
            recurring_run.created_at,
            page,
        )
