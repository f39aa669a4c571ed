"""Recurring runs on a host of Kubeflow Pipelines."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline import cron
from pipeline.kubeflow.runs import Host, Package
from trainer.errors import SettingsError

_MOST = 100


@dataclass(frozen=True)
class Schedule:
    """A recurring run: id, name, cron expression (five fields), whether it is on, when it was made, its page."""

    schedule_id: str
    name: str
    cron: str
    enabled: bool
    created: datetime | None
    page: str


class Schedules:
    """The recurring runs of a host.

    Args:
        host: of Kubeflow Pipelines.
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
        """Makes a schedule: one run at a time; of the times that passed meanwhile, the last one is made up for.

        Args:
            name: that no other schedule of the host has.
            expression: cron, five fields; its time zone is the host's.
            package: to run.
            arguments: of each run.
            experiment: of the runs, made if it is new.
            service_account: of the steps.

        Raises:
            SettingsError: there is one of this name.
        """
        if any(schedule.name == name for schedule in self.list()):
            raise SettingsError(f"There is a schedule {name} already: delete it first, or choose another --name.")
        with self._host.understandable():
            client = self._host.client
            made = client.create_recurring_run(
                experiment_id=client.create_experiment(experiment, namespace=self._host.namespace).experiment_id,
                job_name=name,
                cron_expression=cron.for_kubeflow(expression),
                max_concurrency=1,
                no_catchup=True,
                params=arguments,
                pipeline_package_path=str(package.path),
                service_account=service_account,
            )
        return self._schedule(made)

    def list(self) -> list[Schedule]:
        """All schedules, the newest first."""
        with self._host.understandable():
            found: list[Any] = []
            token = ""
            while True:
                page = self._host.client.list_recurring_runs(
                    page_token=token, page_size=_MOST, sort_by="created_at desc", namespace=self._host.namespace
                )
                found += page.recurring_runs or []
                token = page.next_page_token or ""
                if not token:
                    break
        return [self._schedule(one) for one in found if one.trigger and one.trigger.cron_schedule]

    def find(self, name: str) -> Schedule:
        """The schedule of this name or id.

        Raises:
            SettingsError: there is none, or more than one.
        """
        known = self.list()
        found = [one for one in known if name in (one.schedule_id, one.name)]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(one.schedule_id for one in found)
            raise SettingsError(f"{len(found)} schedules are called {name}; name one by its id: {ids}.")
        names = ", ".join(one.name for one in known) or "none"
        raise SettingsError(f"There is no schedule {name}; there are: {names}.")

    def switch(self, schedule: Schedule, on: bool) -> None:
        """Lets a schedule start runs, or not."""
        client = self._host.client
        with self._host.understandable():
            (client.enable_recurring_run if on else client.disable_recurring_run)(schedule.schedule_id)

    def delete(self, schedule: Schedule) -> None:
        """Deletes a schedule; its runs stay."""
        with self._host.understandable():
            self._host.client.delete_recurring_run(schedule.schedule_id)

    def _schedule(self, found: Any) -> Schedule:
        page = f"{self._host.address}/#/recurringrun/details/{found.recurring_run_id}"
        return Schedule(
            found.recurring_run_id,
            found.display_name,
            cron.from_kubeflow(found.trigger.cron_schedule.cron),
            (found.status or found.mode or "") in ("ENABLED", "ENABLE"),
            found.created_at,
            page,
        )
