"""The one place that talks to MLflow."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

SERVER_VARIABLE = "MLFLOW_TRACKING_URI"

_MODEL = "model"
_MANIFEST = "manifest.json"
_SHA256 = "sha256"
_PROBE_ACCURACY = "probe_accuracy"


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        name: of the registered model.
        version: counts up from 1.
        uri: as MLflow's clients take it, `models:/NAME/VERSION`.
        sha256: over the manifest of the model's files.
        probe_accuracy: as measured before the release.
        created: time of registration.
        aliases: that point to it.
    """

    name: str
    version: int
    sha256: str
    probe_accuracy: float | None
    created: datetime
    aliases: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True)
class Release:
    """What is recorded with a version."""

    probe_accuracy: float
    metrics: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def manifest(directory: str) -> dict[str, str]:
    """sha256 of each file below a local directory, by relative path."""
    root = Path(directory)
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def content_hash(files: dict[str, str]) -> str:
    """One sha256 for a manifest."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


class ModelRegistry:
    """An MLflow Model Registry: the server of `MLFLOW_TRACKING_URI`, or an embedded one.

    Credentials never pass through here: MLflow's client takes them from its own environment variables.

    Args:
        embedded: local directory of the embedded registry (sqlite and files), used when no server is set.
    """

    def __init__(self, embedded: str):
        import mlflow

        server = os.environ.get(SERVER_VARIABLE)
        self._artifacts: str | None = None
        if not server:
            Path(embedded).mkdir(parents=True, exist_ok=True)
            root = Path(embedded).resolve()
            server = f"sqlite:///{root}/mlflow.db"
            self._artifacts = (root / "artifacts").as_uri()
        self._uri = server
        self._client: MlflowClient = mlflow.MlflowClient(tracking_uri=server, registry_uri=server)

    def versions(self, name: str) -> list[Version]:
        """All versions of a registered model, newest first; none if the model is unknown."""
        with _understandable(self._uri):
            found = self._client.search_model_versions(f"name = '{name}'")
            aliases = self._aliases(name) if found else {}
            return sorted((_version(v, aliases) for v in found), key=lambda v: v.version, reverse=True)

    def names(self) -> list[str]:
        """The registered models."""
        with _understandable(self._uri):
            return sorted(model.name for model in self._client.search_registered_models())

    def aliased(self, name: str, alias: str) -> Version | None:
        """The version that an alias points to, if any."""
        return next((v for v in self.versions(name) if alias in v.aliases), None)

    def download(self, version: Version, directory: str) -> str:
        """Copies a version's SavedModel below a local directory and returns its path."""
        import mlflow

        with _understandable(self._uri):
            source = self._client.get_model_version_download_uri(version.name, str(version.version))
            return mlflow.artifacts.download_artifacts(
                artifact_uri=source, dst_path=directory, tracking_uri=self._uri, registry_uri=self._uri
            )

    def push(
        self, name: str, alias: str, model: str, release: Release, check: Callable[[str], None]
    ) -> tuple[Version, bool]:
        """Registers a SavedModel and points the alias to it, last, once it is proven to load back.

        Content that is already registered is not stored again.

        Args:
            name: of the registered model, created if it is new.
            alias: to move.
            model: local directory of the SavedModel.
            release: what to record with it.
            check: given the directory of the downloaded version; raises if it does not work as the pushed one.

        Returns:
            The version, and whether the registry was changed.
        """
        with _understandable(self._uri):
            files = manifest(model)
            sha256 = content_hash(files)
            known = next((v for v in self.versions(name) if v.sha256 == sha256), None)
            if known and alias in known.aliases:
                return known, False
            version = known or self._register(name, model, release, files, sha256)
            with tempfile.TemporaryDirectory() as aside:
                check(self.download(version, aside))
            self._client.set_registered_model_alias(name, alias, str(version.version))
            return next(v for v in self.versions(name) if v.version == version.version), True

    def _register(self, name: str, model: str, release: Release, files: dict[str, str], sha256: str) -> Version:
        run_id = self._client.create_run(self._experiment(name), tags=release.tags).info.run_id
        try:
            for key, number in release.metrics.items():
                self._client.log_metric(run_id, key, number)
            for key, text in release.parameters.items():
                self._client.log_param(run_id, key, text)
            self._client.log_artifacts(run_id, model, _MODEL)
            self._client.log_dict(run_id, files, _MANIFEST)
            for file, text in release.files.items():
                self._client.log_text(run_id, text, file)
        except BaseException:
            self._client.set_terminated(run_id, "FAILED")
            raise
        self._client.set_terminated(run_id)
        if name not in self.names():
            self._client.create_registered_model(name)
        tags = release.tags | {_SHA256: sha256, _PROBE_ACCURACY: repr(release.probe_accuracy)}
        # The name of a logged folder, not a path: servers take no local sources.
        created = self._client.create_model_version(name, f"runs:/{run_id}/{_MODEL}", run_id, tags=tags)
        return _version(created, {})

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found:
            return found.experiment_id
        location = f"{self._artifacts}/{name}" if self._artifacts else None
        return self._client.create_experiment(name, artifact_location=location)

    def _aliases(self, name: str) -> dict[str, list[str]]:
        pointing: dict[str, list[str]] = {}
        for alias, version in self._client.get_registered_model(name).aliases.items():
            pointing.setdefault(str(version), []).append(alias)
        return pointing


def _version(entity: "ModelVersion", aliases: dict[str, list[str]]) -> Version:
    tags: dict[str, Any] = entity.tags or {}
    return Version(
        name=entity.name,
        version=int(entity.version),
        sha256=tags.get(_SHA256, ""),
        probe_accuracy=float(tags[_PROBE_ACCURACY]) if _PROBE_ACCURACY in tags else None,
        created=datetime.fromtimestamp(entity.creation_timestamp / 1000, UTC),
        aliases=tuple(sorted(aliases.get(str(entity.version), ()))),
    )


@contextmanager
def _understandable(uri: str) -> Iterator[None]:
    """MLflow's errors as one sentence."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        place = (
            "the embedded model registry" if uri.startswith("sqlite:") else f"the MLflow server of {SERVER_VARIABLE}"
        )
        raise UserError(f"{place} refused: {error.message}") from error
