"""A compiled pipeline, as `nnclr compile` wrote it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.model_registry.credentials import holds_credentials
from components.registry_pusher.provenance import CodeVersion
from pipeline import provenance
from pipeline.config.kubeflow import can_reach
from pipeline.kubeflow import skip_unchanged
from trainer.errors import SettingsError

_SOURCE, _PUSHER = "source", "RegistryPusher"
_PARAMETER_TYPES: dict[str, Callable[[str], Any]] = {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": float}


@dataclass(frozen=True)
class Package:
    """A compiled pipeline.

    Attributes:
        path: The path of the YAML file.
        name: The name of the pipeline.
        code: The version of nnclr that compiled it.
        digest: The SHA-256 of the file.
        tasks: The names of its steps.
        pipeline_root: Folder for artifacts; None for the default of the host.
        parameters: The definitions of its run parameters by name, as in the KFP pipeline spec.
        mount_paths: Folders at which the step that reads the source mounts volumes.
    """

    path: Path
    name: str
    code: CodeVersion
    digest: str
    tasks: frozenset[str]
    parameters: dict[str, dict[str, Any]]
    pipeline_root: str | None = None
    mount_paths: frozenset[str] = frozenset()

    @property
    def version(self) -> str:
        """The name of this version of the pipeline: the commit of the code, and a part of the file's digest."""
        commit, _, changes = self.code.git_commit.partition("+")
        known = commit != provenance.UNKNOWN
        # In the characters that Kubernetes allows in names, because a host may store pipelines as its objects.
        parts = [commit[:12] if known else self.code.nnclr_version, *(["changed"] if changes else []), self.digest[:8]]
        return "-".join(parts)

    @property
    def description(self) -> str:
        """The version of the code in words."""
        return f"Compiled by nnclr {self.code.nnclr_version}, commit {self.code.git_commit}."

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
                    f"--param {_SOURCE}: the steps cannot read {value!r}: name a gs:// or s3:// URI, or a folder below "
                    "the path of one of the kubeflow.volumes with which the pipeline was compiled."
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
        content = path.read_bytes()
        spec, *platform = yaml.safe_load_all(content.decode())
        tasks = _tasks(spec, spec["root"]["dag"])
        return Package(
            path=path,
            name=spec["pipelineInfo"]["name"],
            code=_code_version(tasks[_PUSHER]),
            digest=hashlib.sha256(content).hexdigest(),
            tasks=frozenset(tasks),
            parameters=spec["root"].get("inputDefinitions", {}).get("parameters", {}),
            pipeline_root=spec.get("defaultPipelineRoot"),
            mount_paths=_mount_paths(spec, platform),
        )
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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


def _tasks(spec: dict[str, Any], dag: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the tasks of a DAG, and of the DAGs in it, by name."""
    tasks = dict(dag["tasks"])
    for task in dag["tasks"].values():
        component = spec["components"][task["componentRef"]["name"]]
        if "dag" in component:
            tasks |= _tasks(spec, component["dag"])
    return tasks


def _code_version(pusher: dict[str, Any]) -> CodeVersion:
    """Returns the version of the code that the task RegistryPusher would record."""
    return CodeVersion.model_validate_json(pusher["inputs"]["parameters"]["code"]["runtimeValue"]["constant"])
