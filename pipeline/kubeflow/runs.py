"""Runs on a host of Kubeflow Pipelines, through the kfp client and its authentication."""

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
from pipeline.config.kubeflow import can_reach
from pipeline.kubeflow import skip_unchanged
from trainer.errors import SettingsError, UserError

_SOURCE = "source"
_PARAMETER_TYPES: dict[str, Callable[[str], Any]] = {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": float}
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
    """

    run_id: str
    name: str
    state: str
    created: datetime | None
    page: str

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in _FINAL_STATES


@dataclass(frozen=True)
class Package:
    """A compiled pipeline.

    Attributes:
        path: The path of the YAML file.
        name: The name of the pipeline.
        tasks: The names of its steps.
        pipeline_root: Folder for artifacts; None for the default of the host.
        parameters: The definitions of its run parameters by name, as in the KFP pipeline spec.
        mount_paths: Folders at which the step that reads the source mounts volumes.
    """

    path: Path
    name: str
    tasks: frozenset[str]
    parameters: dict[str, dict[str, Any]]
    pipeline_root: str | None = None
    mount_paths: frozenset[str] = frozenset()

    def arguments(self, given: list[str]) -> dict[str, Any]:
        """Parses and checks the values of a run's parameters, before the host would refuse them.

        Args:
            given: The values as `NAME=VALUE`.

        Returns:
            The values by name, in the types of the parameters.

        Raises:
            SettingsError: If a parameter is unknown, its value is of another type or contains a password, if the steps
                cannot read the source, or if a parameter without a default is missing.
        """
        values = {}
        for entry in given:
            name, equals, value = entry.partition("=")
            if not equals:
                raise SettingsError(f"--param takes NAME=VALUE, not {entry!r}.")
            if name not in self.parameters:
                known = ", ".join(sorted(self.parameters))
                raise SettingsError(f"--param {name}: {self.path} has no such parameter. Its parameters are: {known}.")
            if holds_credentials(value):
                raise SettingsError(
                    f"--param {name} contains a user or a password, which everyone who sees the run could read."
                )
            if name == _SOURCE and not can_reach(value, self.mount_paths):
                raise SettingsError(
                    f"--param {_SOURCE}: the steps cannot read {value!r}: name a gs:// URI, or a folder below the "
                    "path of one of the kubeflow.volumes with which the pipeline was compiled."
                )
            kind = self.parameters[name]["parameterType"]
            try:
                values[name] = _PARAMETER_TYPES[kind](value)
            except ValueError as error:
                raise SettingsError(f"--param {name}: {value!r} is not of the type {kind}.") from error
        for name, definition in self.parameters.items():
            if name not in values and "defaultValue" not in definition and not definition.get("isOptional"):
                raise SettingsError(f"--param {name}=VALUE is missing: the parameter has no default.")
        return values


def read_package(path: Path) -> Package:
    """Reads a pipeline that `nnclr compile` wrote.

    Raises:
        SettingsError: If the file cannot be read or is not a compiled pipeline.
    """
    try:
        spec, *platform = yaml.safe_load_all(path.read_text(encoding="utf-8"))
        tasks = frozenset(_steps(spec, spec["root"]["dag"]))
        parameters = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        name, root = spec["pipelineInfo"]["name"], spec.get("defaultPipelineRoot")
        return Package(path, name, tasks, parameters, root, _mount_paths(spec, platform))
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{path} is not a compiled pipeline ({type(error).__name__}): create one with nnclr compile."
        ) from error


def _mount_paths(spec: dict[str, Any], platform: list[Any]) -> frozenset[str]:
    """Returns the folders at which the step that reads the source mounts volumes, from the platform spec."""
    if not platform:
        return frozenset()
    label = spec["components"][skip_unchanged.RESOLVER]["executorLabel"]
    pod = platform[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label]
    return frozenset(claim["mountPath"] for claim in pod.get("pvcMount", []))


def _steps(spec: dict[str, Any], dag: dict[str, Any]) -> Iterator[str]:
    """Yields the names of the steps of a DAG and of the DAGs in it."""
    for name, task in dag["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        yield name
        if "dag" in component:
            yield from _steps(spec, component["dag"])


class Host:
    """A host of Kubeflow Pipelines.

    Args:
        address: The address of the host, `http://...` or `https://...`.
        namespace: The Kubernetes namespace, if the host has several users.

    Attributes:
        address: The address without a trailing slash.
        namespace: The Kubernetes namespace.
        client: The kfp client. Wrap calls of the client in `understandable`, which translates its errors.
    """

    def __init__(self, address: str, namespace: str | None = None):
        self.address, self.namespace = address.rstrip("/"), namespace
        # Keeps the client's log messages about failed attempts off the screen: `understandable` reports the error.
        logging.getLogger().addHandler(logging.NullHandler())
        with self.understandable():
            import kfp

            self.client = kfp.Client(host=self.address, namespace=namespace or "kubeflow")

    def submit(
        self, package: Package, arguments: dict[str, Any], experiment: str, service_account: str | None = None
    ) -> Run:
        """Starts a run of a package.

        Args:
            package: The compiled pipeline.
            arguments: The values of the run's parameters.
            experiment: The experiment of the run. It is created if it is missing.
            service_account: The Kubernetes service account of the steps; by default that of the host.
        """
        name = f"{package.name} {datetime.now():%Y-%m-%d %H:%M:%S}"
        with self.understandable():
            submitted = self.client.create_run_from_pipeline_package(
                str(package.path),
                arguments=arguments,
                run_name=name,
                experiment_name=experiment,
                namespace=self.namespace,
                service_account=service_account,
                # The host does not read the root in the package.
                pipeline_root=package.pipeline_root,
            )
        return self._run(submitted.run_info)

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
            with self.understandable():
                response = self.client.get_run(run_id)
            for detail in (response.run_details.task_details if response.run_details else None) or []:
                name, state = detail.display_name, detail.state
                if name in tasks and state and states.get(name) != state:
                    states[name] = state
                    on_change(name, state)
            run = self._run(response)
            if run.ended:
                return run
            time.sleep(interval_seconds)

    def runs(self, experiment: str | None, most: int) -> list[Run]:
        """Lists the newest runs, newest first.

        Args:
            experiment: The name of an experiment; None for the runs of all experiments.
            most: The maximum number of runs.
        """
        with self.understandable():
            experiment_id = None
            if experiment:
                experiment_id = self.client.get_experiment(
                    experiment_name=experiment, namespace=self.namespace
                ).experiment_id
            response = self.client.list_runs(
                page_size=most, sort_by="created_at desc", experiment_id=experiment_id, namespace=self.namespace
            )
        return [self._run(run) for run in response.runs or []]

    def _run(self, run: Any) -> Run:
        page = f"{self.address}/#/runs/details/{run.run_id}"
        return Run(run.run_id, run.display_name, run.state or "PENDING", run.created_at, page)

    @contextlib.contextmanager
    def understandable(self) -> Iterator[None]:
        """Turns errors of the kfp client into a `UserError` of one sentence."""
        import kfp_server_api
        from urllib3.exceptions import HTTPError

        # The client prints links for notebooks, and warns about known deprecations.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            except kfp_server_api.ApiException as error:
                reason = " ".join(str(error.body or error.reason).split())[:300]
                raise UserError(f"{self.address} refused the request ({error.status}): {reason}") from error
            except (HTTPError, OSError) as error:
                raise UserError(f"{self.address} does not respond: {' '.join(str(error).split())[:200]}") from error
            except (ValueError, RuntimeError) as error:
                raise UserError(f"{self.address}: {' '.join(str(error).split())[:300]}") from error
