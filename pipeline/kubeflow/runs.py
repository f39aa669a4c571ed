"""Runs on a Kubeflow Pipelines host, through kfp's own client, whose ways of authentication hold."""

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from components.model_registry.credentials import holds_credentials
from trainer.errors import SettingsError, UserError

_TYPES: dict[str, Callable[[str], Any]] = {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": float}
_ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}


@dataclass(frozen=True)
class Run:
    """A run: id, name, state as Kubeflow Pipelines calls it, when it was made, and the address of its page."""

    run_id: str
    name: str
    state: str
    created: datetime | None
    page: str

    @property
    def ended(self) -> bool:
        """Whether its state will not change any more."""
        return self.state in _ENDED


@dataclass(frozen=True)
class Package:
    """A compiled pipeline.

    Attributes:
        path: of the YAML file.
        name: of the pipeline.
        tasks: names of its steps.
        parameters: definitions of a run's parameters.
    """

    path: Path
    name: str
    tasks: frozenset[str]
    parameters: dict[str, dict[str, Any]]

    def arguments(self, given: list[str]) -> dict[str, Any]:
        """Values of a run's parameters, refused by the rules of the host, and before it is asked.

        Args:
            given: `NAME=VALUE`.

        Raises:
            SettingsError: one is unknown, has a value of another type, holds a password, or is missing and has no
                default.
        """
        values = {}
        for entry in given:
            name, equals, value = entry.partition("=")
            if not equals:
                raise SettingsError(f"--param takes NAME=VALUE, not {entry!r}.")
            if name not in self.parameters:
                known = ", ".join(sorted(self.parameters))
                raise SettingsError(f"--param {name}: {self.path} has no such parameter; there are: {known}.")
            if holds_credentials(value):
                raise SettingsError(f"--param {name} holds a user or a password, which all who see the run could read.")
            kind = self.parameters[name]["parameterType"]
            try:
                values[name] = _TYPES[kind](value)
            except ValueError as error:
                raise SettingsError(f"--param {name}: {value!r} is no {kind}.") from error
        for name, definition in self.parameters.items():
            if name not in values and "defaultValue" not in definition and not definition.get("isOptional"):
                raise SettingsError(f"--param {name}=VALUE is needed: it has no default.")
        return values


def read_package(path: Path) -> Package:
    """Reads what `nnclr compile` wrote.

    Raises:
        SettingsError: it is something else.
    """
    try:
        spec = next(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        tasks = frozenset(_steps(spec, spec["root"]["dag"]))
        parameters = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        return Package(path, spec["pipelineInfo"]["name"], tasks, parameters)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, StopIteration, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{path} is no compiled pipeline ({type(error).__name__}): make one with nnclr compile."
        ) from error


def _steps(spec: dict[str, Any], dag: dict[str, Any]) -> Iterator[str]:
    for name, task in dag["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        yield name
        if "dag" in component:
            yield from _steps(spec, component["dag"])


class Host:
    """A host of Kubeflow Pipelines.

    Args:
        address: of it, `http://...`.
        namespace: on a host for several users.

    Attributes:
        client: kfp's, for the other modules of this package; what it refuses, `understandable` explains.
    """

    def __init__(self, address: str, namespace: str | None = None):
        self.address, self.namespace = address.rstrip("/"), namespace
        # The client logs each failed attempt with its whole story; what comes of them is told below.
        logging.getLogger().addHandler(logging.NullHandler())
        with self.understandable():
            import kfp

            self.client = kfp.Client(host=self.address, namespace=namespace or "kubeflow")

    def submit(
        self, package: Package, arguments: dict[str, Any], experiment: str, service_account: str | None = None
    ) -> Run:
        """Starts a run of a package in an experiment, which is made if it is new."""
        name = f"{package.name} {datetime.now():%Y-%m-%d %H:%M:%S}"
        with self.understandable():
            submitted = self.client.create_run_from_pipeline_package(
                str(package.path),
                arguments=arguments,
                run_name=name,
                experiment_name=experiment,
                namespace=self.namespace,
                service_account=service_account,
            )
        return self._run(submitted.run_info)

    def follow(
        self, run_id: str, tasks: frozenset[str], told: Callable[[str, str], None], every_seconds: float = 10.0
    ) -> Run:
        """Waits until a run has ended.

        Args:
            run_id: of it.
            tasks: the steps that matter; a host lists helpers of its own, too.
            told: called with a step's name and state whenever that changes.
            every_seconds: how often to ask.
        """
        known: dict[str, str] = {}
        while True:
            with self.understandable():
                found = self.client.get_run(run_id)
            for detail in (found.run_details.task_details if found.run_details else None) or []:
                name, state = detail.display_name, detail.state
                if name in tasks and state and known.get(name) != state:
                    known[name] = state
                    told(name, state)
            run = self._run(found)
            if run.ended:
                return run
            time.sleep(every_seconds)

    def runs(self, experiment: str | None, most: int) -> list[Run]:
        """The newest runs, of one experiment or of all."""
        with self.understandable():
            experiment_id = None
            if experiment:
                experiment_id = self.client.get_experiment(
                    experiment_name=experiment, namespace=self.namespace
                ).experiment_id
            found = self.client.list_runs(
                page_size=most, sort_by="created_at desc", experiment_id=experiment_id, namespace=self.namespace
            )
        return [self._run(run) for run in found.runs or []]

    def _run(self, found: Any) -> Run:
        page = f"{self.address}/#/runs/details/{found.run_id}"
        return Run(found.run_id, found.display_name, found.state or "PENDING", found.created_at, page)

    @contextlib.contextmanager
    def understandable(self) -> Iterator[None]:
        """Turns what the host refuses, or that it does not answer, into a `UserError`."""
        import kfp_server_api
        from urllib3.exceptions import HTTPError

        # The client prints links for notebooks, and warns of what has long been so.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            except kfp_server_api.ApiException as error:
                reason = " ".join(str(error.body or error.reason).split())[:300]
                raise UserError(f"{self.address} refused ({error.status}): {reason}") from error
            except (HTTPError, OSError) as error:
                raise UserError(f"{self.address} does not answer: {' '.join(str(error).split())[:200]}") from error
            except (ValueError, RuntimeError) as error:
                raise UserError(f"{self.address}: {' '.join(str(error).split())[:300]}") from error
