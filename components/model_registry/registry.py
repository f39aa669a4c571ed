"""Versions and aliases of registered models."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from components import file_lock, relocation
from components.model_registry import contents, history
from components.model_registry.contents import DamagedVersion
from components.model_registry.credentials import without_credentials
from components.model_registry.history import Move
from components.model_registry.refusals import understandable
from trainer.errors import SettingsError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

logger = logging.getLogger("nnclr")

SERVER_VARIABLE = "MLFLOW_TRACKING_URI"

_MODEL = "model"
# MLflow's limit for parameters.
_MOST_IN_BATCH = 100
# In an embedded registry that was copied: files outside of it are shared with the original.
_COPIED = ".copied"
# Where MLflow's tables hold places of files.
_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("registered_model_tags", "value"),
)
# Where the folder of a registry shows that was made before it was recorded.
_ROOT_IN = ("experiments", "artifact_location", r"(?P<root>.+/registry)/artifacts/[^/]+")
#: Tag of a registered model: the folder that TensorFlow Serving watches.
SERVING_DIRECTORY = "serving_directory"
_RELEASE, _SHA256, _PROBE_ACCURACY, _TEST_DATA = "release", "sha256", "probe_accuracy", "test_data"


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        name: of the registered model.
        version: counts up from 1.
        uri: as MLflow's clients take it, `models:/NAME/VERSION`.
        run_id: of the MLflow run that holds its files and figures.
        release: identity of what was released: pushing the same again makes no new version.
        sha256: of the manifest of its files.
        probe_accuracy: as measured before the release.
        test_data: identity of the images that it was measured on.
        created: time of registration.
        aliases: that point to it.
    """

    name: str
    version: int
    run_id: str
    release: str
    sha256: str
    probe_accuracy: float | None
    test_data: str
    created: datetime
    aliases: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True)
class Release:
    """What becomes a version.

    Attributes:
        identity: see `Version.release`.
        directory: local folder with an MLflow model and a manifest.
        probe_accuracy: as measured.
        test_data: identity of the images that it was measured on.
        description: Markdown, shown on the version's page.
        metrics: figures of the MLflow run.
        parameters: of the MLflow run.
        tags: of run and version.
    """

    identity: str
    directory: Path
    probe_accuracy: float
    test_data: str = ""
    description: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class ModelRegistry:
    """An MLflow Model Registry: the server of `MLFLOW_TRACKING_URI`, or an embedded one.

    Credentials never pass through here: MLflow's client, and Cloud Storage's, take them from their own environment.

    Args:
        embedded: local directory of the embedded registry (sqlite and files), used when no server is set.
        artifacts: where the files of models that are new to the registry go, local or `gs://`; the server's own place,
            or the embedded directory, if None.

    Attributes:
        client: MLflow's, for the other modules of this package.
    """

    def __init__(self, embedded: str, artifacts: str | None = None):
        # Bars of MLflow's own would break through ours.
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        # With MLflow's pauses, 4, 8, 16 and 32 s, a server that does not answer is given up after a minute.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
        server = os.environ.get(SERVER_VARIABLE)
        self._artifacts, self._lock = artifacts, None
        self._root: Path | None = None
        if not server and not embedded:
            raise SettingsError(f"There is no model registry: name the MLflow server in {SERVER_VARIABLE}.")
        if not server:
            Path(embedded).mkdir(parents=True, exist_ok=True)
            root = Path(embedded).resolve()
            server = f"sqlite:///{root}/mlflow.db"
            self._root, self._lock = root, root / ".lock"
            self._artifacts = artifacts or (root / "artifacts").as_uri()
        self._uri = server
        with self.understandable():
            self.client: MlflowClient = self._connected() if self._root is None else self._embedded(self._root)

    def _connected(self) -> "MlflowClient":
        import mlflow

        return mlflow.MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    def _embedded(self, root: Path) -> "MlflowClient":
        """A client of the registry below `root`, with tables, and with its locations there."""
        database = root / "mlflow.db"
        if relocation.is_settled(database, root):
            return self._connected()
        # Two processes that make the tables at once would disturb each other.
        with self.locked():
            client = self._connected()
            client.search_experiments(max_results=1)
            former = relocation.former_root(database, root, _ROOT_IN)
            copied = former is not None and (former / "mlflow.db").exists()
            if copied:
                (root / _COPIED).touch()
            relocation.settle(database, root, _LOCATIONS, former)
            if former:
                self._forget_served_folders(client, copied)
            return client

    @staticmethod
    def _forget_served_folders(client: "MlflowClient", copied: bool) -> None:
        """A copy must not publish into the original's folder, nor a moved registry into one that is no longer there."""
        for model in all_pages(client.search_registered_models):
            folder = model.tags.get(SERVING_DIRECTORY)
            if folder and (copied or ("://" not in folder and not Path(folder).exists())):
                client.delete_registered_model_tag(model.name, SERVING_DIRECTORY)

    def names(self) -> list[str]:
        """The registered models."""
        with self.understandable():
            return sorted(model.name for model in all_pages(self.client.search_registered_models))

    def created(self, name: str) -> int | None:
        """When a registered model was made, in ms since 1970; None if there is none of this name."""
        from mlflow.exceptions import MlflowException

        with self.understandable():
            try:
                return self.client.get_registered_model(name).creation_timestamp
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return None

    def versions(self, name: str) -> list[Version]:
        """All versions of a registered model, newest first; none if the model is unknown."""
        with self.understandable():
            found = all_pages(self.client.search_model_versions, filter_string=f"name = '{name}'")
            pointing: dict[int, list[str]] = {}
            for alias, version in (self._aliases(name) if found else {}).items():
                pointing.setdefault(version, []).append(alias)
            return sorted((_version(v, pointing) for v in found), key=lambda v: v.version, reverse=True)

    def version(self, name: str, number: int) -> Version:
        """One version.

        Raises:
            SettingsError: there is none of this number.
        """
        versions = self.versions(name)
        found = next((v for v in versions if v.version == number), None)
        if found is None:
            known = ", ".join(str(v.version) for v in versions) or "none"
            raise SettingsError(f"{name} has no version {number}; there are: {known}.")
        return found

    def aliased(self, name: str, alias: str) -> Version | None:
        """The version that an alias points to, if any."""
        return next((v for v in self.versions(name) if alias in v.aliases), None)

    def details(self, version: Version) -> dict[str, Any]:
        """Description, tags, metrics and parameters of a version, and the page that shows it, if a server does."""
        with self.understandable():
            run = self.client.get_run(version.run_id)
            entity = self.client.get_model_version(version.name, str(version.version))
        return {
            "description": entity.description,
            "tags": dict(entity.tags),
            "metrics": dict(run.data.metrics),
            "parameters": dict(run.data.params),
            "artifacts": run.info.artifact_uri,
            "page": self.page(version),
        }

    def page(self, version: Version) -> str | None:
        """Address of the version's page on the server; None if the registry is an embedded one."""
        if not self._uri.startswith(("http://", "https://")):
            return None
        # It goes into reports.
        server = without_credentials(self._uri).rstrip("/")
        return f"{server}/#/models/{quote(version.name)}/versions/{version.version}"

    def download(self, version: Version, directory: str) -> Path:
        """Copies a version's files below a local directory and returns their folder.

        Raises:
            DamagedVersion: files are missing, or are not those that were registered.
        """
        folder, found = self.download_as_is(version, directory)
        if found:
            raise DamagedVersion(f"{version.uri}: {'; '.join(found)}")
        return folder

    def download_as_is(self, version: Version, directory: str) -> tuple[Path, list[str]]:
        """The same, with the damage told instead of raised (see `contents.damage`)."""
        folder = Path(directory, _MODEL)
        with self.understandable():
            # Not through runs:/ addresses: there MLflow makes one error of everything that may go wrong.
            stored = self._storage(version.run_id)
            # A storage that cannot be asked raises; one that answers with nothing has lost the files.
            if not stored.list_artifacts(_MODEL):
                return folder, [f"its files are gone from {without_credentials(stored.artifact_uri)}"]
            Path(directory).mkdir(parents=True, exist_ok=True)
            stored.download_artifacts(_MODEL, directory)
        return folder, contents.damage(folder, version.sha256)

    def _storage(self, run_id: str) -> "ArtifactRepository":
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        where = self.client.get_run(run_id).info.artifact_uri
        return get_artifact_repository(where, tracking_uri=self._uri, registry_uri=self._uri)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from changing an embedded registry meanwhile; a server has no lock to give."""
        if self._lock is None:
            yield
            return
        with file_lock.locked(self._lock):
            yield

    def find(self, name: str, release: str) -> Version | None:
        """The version of a release, if it was registered."""
        return next(iter(self._of_release(name, release)[-1:]), None)

    def register(self, name: str, release: Release) -> Version:
        """Makes a version of a release that has none.

        The version appears last, when all its files are stored. If two processes do it at once, one version stays.
        """
        from mlflow.exceptions import MlflowException

        with self.understandable():
            try:
                self._create(name, release)
            except MlflowException:
                # Another push of the same release may have been faster, and have cleared this one's run away.
                if not self._of_release(name, release.identity):
                    raise
            version, *doubles = reversed(self._of_release(name, release.identity))
            for double in doubles:
                with _tolerating("RESOURCE_DOES_NOT_EXIST"):
                    self.client.delete_model_version(name, str(double.version))
            return version

    def clear_up(self, name: str, release: str) -> None:
        """Deletes what pushes of a release that were broken off, or lost a race, left behind."""
        with self.understandable():
            used = {version.run_id for version in self.versions(name)}
            experiments, condition = [self.experiment(name)], f"tags.{_RELEASE} = '{release}'"
            for run in all_pages(self.client.search_runs, experiment_ids=experiments, filter_string=condition):
                if run.info.run_id not in used:
                    self._delete_run(run.info.run_id)

    def move_alias(self, name: str, move: Move) -> None:
        """Points an alias to a version and records who did it, and why.

        Args:
            name: of the registered model.
            move: what to do; `previous` is looked up.
        """
        with self.understandable():
            previous = self._aliases(name).get(move.alias)
            moves = [known for known in self.history(name) if known.alias == move.alias]
            last = moves[-1] if moves else None
            if last and not last.done and (last.version, last.by) == (move.version, move.by):
                record = last
            elif previous == move.version:
                return
            else:
                self._record_found(name, move.alias, previous, moves)
                record = Move(move.alias, previous, move.version, move.kind, move.by, move.reason).stamped()
                self.client.set_registered_model_tag(name, *record.as_tag())
            self._point(name, move.alias, move.version)
            self.client.set_registered_model_tag(name, *replace(record, done=True).as_tag())

    def _record_found(self, name: str, alias: str, now: int | None, moves: list[Move]) -> None:
        """Records a move that was made by other means than nnclr, if the last known one ended elsewhere."""
        before = next((move.version for move in reversed(moves) if move.completed), None)
        if now is None or not moves or before == now:
            return
        found = Move(alias, before, now, history.FOUND, "unknown", "The alias was moved by other means than nnclr.")
        self.client.set_registered_model_tag(name, *replace(found.stamped(), done=True).as_tag())

    def rollback_target(self, name: str, alias: str) -> Version | None:
        """The version that a rollback of an alias goes to, see `history.rollback_target`; None if there is none."""
        versions = {version.version: version for version in self.versions(name)}
        current = next((number for number, version in versions.items() if alias in version.aliases), None)
        if current is None:
            return None
        target = history.rollback_target(self.history(name), alias, current, versions)
        return versions[target] if target is not None else None

    def prunable(self, name: str, keep: int) -> list[Version]:
        """The versions beyond the newest `keep` that no alias points to, and that no rollback would go to."""
        versions = self.versions(name)
        aliases = {alias for version in versions for alias in version.aliases}
        targets = [self.rollback_target(name, alias) for alias in sorted(aliases)]
        kept = {version.version for version in targets if version}
        return [version for version in versions[keep:] if not version.aliases and version.version not in kept]

    def repair(self, version: Version, release: Release) -> Version:
        """Stores the files of a version anew, whose stored files are gone or damaged.

        Args:
            version: The version of the same release.
            release: made again from the same encoder; its other files may differ in dates.
        """
        with self.understandable():
            # Over what is there: nothing is deleted that a failure might leave missing.
            self.client.log_artifacts(version.run_id, str(release.directory), _MODEL)
            sha256 = contents.fingerprint(release.directory)
            self.client.set_model_version_tag(version.name, str(version.version), _SHA256, sha256)
        return self.version(version.name, version.version)

    def history(self, name: str) -> list[Move]:
        """All moves of aliases, oldest first."""
        with self.understandable():
            return history.from_tags(self.client.get_registered_model(name).tags, self._aliases(name))

    def tag(self, name: str, key: str) -> str | None:
        """A tag of the registered model."""
        with self.understandable():
            return self.client.get_registered_model(name).tags.get(key)

    def set_tag(self, name: str, key: str, value: str) -> None:
        """Sets a tag of the registered model."""
        with self.understandable():
            self.client.set_registered_model_tag(name, key, value)

    def delete(self, version: Version) -> None:
        """Deletes a version, then its files.

        Raises:
            SettingsError: an alias points to it.
        """
        with self.understandable():
            pointing = [alias for alias, number in self._aliases(version.name).items() if number == version.version]
            if pointing:
                raise SettingsError(f"{version.uri} is {', '.join(pointing)}: move the alias first.")
            self.client.delete_model_version(version.name, str(version.version))
            self._delete_run(version.run_id)

    def _point(self, name: str, alias: str, version: int) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.set_registered_model_alias(name, alias, str(version))
        except MlflowException:
            # MLflow looks whether there is such an alias before it adds one: of two that add it at once, one fails.
            if alias not in self._aliases(name):
                raise
            self.client.set_registered_model_alias(name, alias, str(version))

    def _create(self, name: str, release: Release) -> None:
        tags = release.tags | {_RELEASE: release.identity}
        run_id = self.client.create_run(
            self.experiment(name), tags=tags, run_name=release.tags.get("pipeline_run")
        ).info.run_id
        try:
            self._log_figures(run_id, release)
            self.client.log_artifacts(run_id, str(release.directory), _MODEL)
        except BaseException:
            # Whatever stopped this may stop that as well, and is what must be told.
            with suppress(Exception):
                self.client.set_terminated(run_id, "FAILED")
            raise
        self.client.set_terminated(run_id)
        if name not in self.names():
            with _tolerating("RESOURCE_ALREADY_EXISTS"):
                self.client.create_registered_model(name)
        self.client.create_model_version(
            name,
            # The name of a logged folder, not a path: servers take no local sources.
            f"runs:/{run_id}/{_MODEL}",
            run_id,
            tags=tags
            | {
                _SHA256: contents.fingerprint(release.directory),
                _PROBE_ACCURACY: repr(release.probe_accuracy),
                _TEST_DATA: release.test_data,
            },
            description=release.description,
        )

    def _log_figures(self, run_id: str, release: Release) -> None:
        from mlflow.entities import Metric, Param

        now = int(datetime.now(UTC).timestamp() * 1000)
        metrics = [Metric(key, number, now, 0) for key, number in release.metrics.items()]
        parameters = [Param(key, text) for key, text in release.parameters.items()]
        for first in range(0, max(len(metrics), len(parameters)), _MOST_IN_BATCH):
            part = slice(first, first + _MOST_IN_BATCH)
            self.client.log_batch(run_id, metrics=metrics[part], params=parameters[part])

    def _of_release(self, name: str, identity: str) -> list[Version]:
        return [version for version in self.versions(name) if version.release == identity]

    def _delete_run(self, run_id: str) -> None:
        self._delete_artifacts(run_id)
        self.client.delete_run(run_id)

    def _delete_artifacts(self, run_id: str) -> None:
        stored = self._storage(run_id)
        where = stored.artifact_uri
        if self._root and (self._root / _COPIED).exists() and not _lies_below(where, self._root):
            # The registry that this one was copied from has the same files there.
            logger.warning("%s is not deleted: the registry was copied from another one, which uses it.", where)
            return
        stored.delete_artifacts()

    def experiment(self, name: str) -> str:
        """Id of an MLflow experiment, which is made if it is new."""
        found = self.client.get_experiment_by_name(name)
        if found:
            return found.experiment_id
        location = f"{self._artifacts.rstrip('/')}/{name}" if self._artifacts else None
        with _tolerating("RESOURCE_ALREADY_EXISTS"):
            return self.client.create_experiment(name, artifact_location=location)
        return self.client.get_experiment_by_name(name).experiment_id

    def _aliases(self, name: str) -> dict[str, int]:
        return {alias: int(version) for alias, version in self.client.get_registered_model(name).aliases.items()}

    def understandable(self):
        """Turns what the registry refuses into a `UserError`."""
        server = f"the MLflow server {without_credentials(self._uri)} ({SERVER_VARIABLE})"
        return understandable(f"the embedded model registry {self._root}" if self._root else server)


def all_pages(search: Callable[..., Any], **arguments: Any) -> list[Any]:
    """What a search of MLflow's finds, page by page."""
    found, token = [], None
    while True:
        page = search(page_token=token, **arguments)
        found += page
        token = page.token
        if not token:
            return found


def _lies_below(location: str, root: Path) -> bool:
    from mlflow.utils.file_utils import local_file_uri_to_path

    return "://" not in location.removeprefix("file://") and Path(local_file_uri_to_path(location)).is_relative_to(root)


@contextmanager
def _tolerating(code: str) -> Iterator[None]:
    """Another process may have been faster."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != code:
            raise


def _version(entity: "ModelVersion", aliases: dict[int, list[str]]) -> Version:
    tags: dict[str, Any] = entity.tags or {}
    return Version(
        name=entity.name,
        version=int(entity.version),
        run_id=entity.run_id or "",
        release=tags.get(_RELEASE, ""),
        sha256=tags.get(_SHA256, ""),
        probe_accuracy=float(tags[_PROBE_ACCURACY]) if _PROBE_ACCURACY in tags else None,
        test_data=tags.get(_TEST_DATA, ""),
        created=datetime.fromtimestamp(entity.creation_timestamp / 1000, UTC),
        aliases=tuple(sorted(aliases.get(int(entity.version), ()))),
    )
