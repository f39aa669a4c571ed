"""The versions of registered models: what each is, and how it is registered, downloaded, repaired and deleted."""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.model_registry import contents, tags
from components.model_registry.aliases import alias_targets
from components.model_registry.connection import Connection
from components.model_registry.contents import DamagedVersion
from components.model_registry.errors import ignoring
from components.model_registry.paging import all_pages
from components.model_registry.stored_files import StoredFiles
from trainer.errors import SettingsError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

# MLflow's limit for the parameters of one request.
_BATCH_SIZE = 100


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        name: The name of the registered model.
        version: The version's number; the first version has number 1.
        run_id: The id of the MLflow run that holds the version's files and figures.
        release: The identity of the release; a release that is registered is not registered again.
        sha256: The sha256 of the manifest of the version's files.
        probe_accuracy: The accuracy that was measured before the release; None if it is not recorded.
        test_data: The identity of the images on which the version was measured.
        created: The time of registration.
        aliases: The aliases that point to the version, sorted.
        neighbour_consistency: The neighbour consistency that was measured before a release without labels.
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
    neighbour_consistency: float | None = None

    @property
    def uri(self) -> str:
        """The version's address for MLflow's clients, `models:/NAME/VERSION`."""
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True)
class VersionDetails:
    """What the registry knows of a version beyond `Version`.

    Attributes:
        description: The description in Markdown, if any.
        tags: The version's tags.
        metrics: The figures of the version's MLflow run.
        parameters: The settings that the version's MLflow run records.
        artifacts: The path or URI of the run's artifacts.
        page: The address of the version's page on the server; None without a server.
    """

    description: str | None
    tags: dict[str, str]
    metrics: dict[str, float]
    parameters: dict[str, str]
    artifacts: str
    page: str | None


@dataclass(frozen=True)
class Release:
    """A release, which becomes a version when it is registered.

    Attributes:
        identity: The identity of the release; see `Version.release`.
        directory: The local folder of the files: an MLflow model and a manifest.
        probe_accuracy: The measured accuracy; None if there are no labels.
        test_data: The identity of the images on which the encoder was measured.
        neighbour_consistency: The measured neighbour consistency; None if there are labels.
        description: The description in Markdown, shown on the version's page.
        metrics: The figures for the MLflow run.
        parameters: The parameters for the MLflow run.
        tags: The tags for the run and the version.
    """

    identity: str
    directory: Path
    probe_accuracy: float | None
    test_data: str = ""
    neighbour_consistency: float | None = None
    description: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Download:
    """A local copy of a version's files.

    Attributes:
        directory: The folder that holds the files, if the registry's storage still has any.
        damage: One clause for each difference from what was registered; empty if the copy is intact.
    """

    directory: Path
    damage: list[str]


class Versions:
    """Registered models and their versions; a part of `ModelRegistry`.

    Attributes:
        connection: The connection to the registry.
    """

    connection: Connection

    def names(self) -> list[str]:
        """Returns the names of the registered models, sorted."""
        with self.connection.readable_errors():
            return sorted(model.name for model in all_pages(self.connection.client.search_registered_models))

    def created_ms(self, name: str) -> int | None:
        """Returns the time at which a registered model was created, in ms since 1970; None if it does not exist."""
        with self.connection.readable_errors(), ignoring("RESOURCE_DOES_NOT_EXIST"):
            return self.connection.client.get_registered_model(name).creation_timestamp
        return None

    def versions(self, name: str) -> list[Version]:
        """Returns all versions of a registered model, newest first; none if the model does not exist."""
        with self.connection.readable_errors():
            stored = all_pages(self.connection.client.search_model_versions, filter_string=f"name = '{name}'")
            targets = alias_targets(self.connection, name) if stored else {}
            return sorted((_from_mlflow(version, targets) for version in stored), key=lambda v: v.version, reverse=True)

    def version(self, name: str, number: int) -> Version:
        """Returns the version of this number.

        Raises:
            SettingsError: If the registered model has no such version.
        """
        versions = self.versions(name)
        version = next((v for v in versions if v.version == number), None)
        if version is None:
            known = ", ".join(str(v.version) for v in versions) or "none"
            raise SettingsError(f"{name} has no version {number}; there are: {known}.")
        return version

    def aliased(self, name: str, alias: str) -> Version | None:
        """Returns the version that an alias points to; None if the alias does not exist."""
        return next((v for v in self.versions(name) if alias in v.aliases), None)

    def find_release(self, name: str, identity: str) -> Version | None:
        """Returns the version of a release; None if the release is not registered."""
        return next(iter(self._of_release(name, identity)[-1:]), None)

    def details(self, version: Version) -> VersionDetails:
        """Returns the version's description, tags, figures, parameters and addresses."""
        with self.connection.readable_errors():
            run = self.connection.client.get_run(version.run_id)
            stored = self.connection.client.get_model_version(version.name, str(version.version))
        return VersionDetails(
            description=stored.description,
            tags=dict(stored.tags),
            metrics=dict(run.data.metrics),
            parameters=dict(run.data.params),
            artifacts=run.info.artifact_uri,
            page=self.page(version),
        )

    def page(self, version: Version) -> str | None:
        """Returns the address of the version's page on the server, without credentials; None without a server."""
        return self.connection.version_page(version.name, version.version)

    def download(self, version: Version, directory: str) -> Path:
        """Copies a version's files below a local directory and returns their folder.

        Raises:
            DamagedVersion: If files are missing, or differ from those that were registered.
        """
        copy = self.download_even_if_damaged(version, directory)
        if copy.damage:
            raise DamagedVersion(f"{version.uri}: {'; '.join(copy.damage)}")
        return copy.directory

    def download_even_if_damaged(self, version: Version, directory: str) -> Download:
        """Copies a version's files below a local directory, and returns their damage instead of raising."""
        with self.connection.readable_errors():
            files = StoredFiles(self.connection, version.run_id)
            if not files.exist():
                return Download(Path(directory), [f"its files are gone from {files.location}"])
            folder = files.download(directory)
        return Download(folder, contents.find_damage(folder, version.sha256))

    def register(self, name: str, release: Release) -> Version:
        """Registers a release that has no version yet.

        The version appears once all its files are stored. If two processes register the release at once, one version
        remains.
        """
        from mlflow.exceptions import MlflowException

        with self.connection.readable_errors():
            try:
                self._create(name, release)
            except MlflowException:
                # A faster push of the same release may have deleted the run of this one as abandoned.
                if not self._of_release(name, release.identity):
                    raise
            first, *duplicates = reversed(self._of_release(name, release.identity))
            for duplicate in duplicates:
                with ignoring("RESOURCE_DOES_NOT_EXIST"):
                    self.connection.client.delete_model_version(name, str(duplicate.version))
            return first

    def repair(self, version: Version, release: Release) -> Version:
        """Stores the files of a version again after they were lost or damaged.

        Args:
            version: The version of the same release.
            release: The release, built again from the same encoder; files that hold dates may differ.

        Returns:
            The version with the sha256 of its new manifest.
        """
        with self.connection.readable_errors():
            StoredFiles(self.connection, version.run_id).upload(release.directory)
            sha256 = contents.manifest_sha256(release.directory)
            self.connection.client.set_model_version_tag(version.name, str(version.version), tags.SHA256, sha256)
        return self.version(version.name, version.version)

    def delete(self, version: Version) -> None:
        """Deletes a version, then its files.

        Raises:
            SettingsError: If an alias points to the version.
        """
        with self.connection.readable_errors():
            targets = alias_targets(self.connection, version.name)
            aliases = [alias for alias, number in targets.items() if number == version.version]
            if aliases:
                raise SettingsError(f"{version.uri} is {', '.join(aliases)}: move the alias first.")
            self.connection.client.delete_model_version(version.name, str(version.version))
            self._delete_run(version.run_id)

    def delete_abandoned_runs(self, name: str, identity: str) -> None:
        """Deletes the MLflow runs, with their files, that interrupted or duplicate pushes of a release left.

        Args:
            name: The name of the registered model.
            identity: The identity of the release.
        """
        with self.connection.readable_errors():
            used = {version.run_id for version in self.versions(name)}
            experiments = [self.connection.experiment_id(name)]
            condition = f"tags.{tags.RELEASE} = '{identity}'"
            search = self.connection.client.search_runs
            for run in all_pages(search, experiment_ids=experiments, filter_string=condition):
                if run.info.run_id not in used:
                    self._delete_run(run.info.run_id)

    def _of_release(self, name: str, identity: str) -> list[Version]:
        return [version for version in self.versions(name) if version.release == identity]

    def _create(self, name: str, release: Release) -> None:
        client = self.connection.client
        release_tags = release.tags | {tags.RELEASE: release.identity}
        run = client.create_run(
            self.connection.experiment_id(name), tags=release_tags, run_name=release.tags.get("pipeline_run")
        )
        run_id = run.info.run_id
        files = StoredFiles(self.connection, run_id)
        try:
            self._log_figures(run_id, release)
            files.upload(release.directory)
        except BaseException:
            # The same failure may also stop this request, and the first error is the one to report.
            with suppress(Exception):
                client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
        if name not in self.names():
            with ignoring("RESOURCE_ALREADY_EXISTS"):
                client.create_registered_model(name)
        figures = {
            tags.PROBE_ACCURACY: release.probe_accuracy,
            tags.NEIGHBOUR_CONSISTENCY: release.neighbour_consistency,
        }
        client.create_model_version(
            name,
            files.source,
            run_id,
            tags=release_tags
            | {tags.SHA256: contents.manifest_sha256(release.directory), tags.TEST_DATA: release.test_data}
            | {key: repr(figure) for key, figure in figures.items() if figure is not None},
            description=release.description,
        )

    def _log_figures(self, run_id: str, release: Release) -> None:
        from mlflow.entities import Metric, Param

        now = int(datetime.now(UTC).timestamp() * 1000)
        metrics = [Metric(key, number, now, 0) for key, number in release.metrics.items()]
        parameters = [Param(key, text) for key, text in release.parameters.items()]
        for first in range(0, max(len(metrics), len(parameters)), _BATCH_SIZE):
            batch = slice(first, first + _BATCH_SIZE)
            self.connection.client.log_batch(run_id, metrics=metrics[batch], params=parameters[batch])

    def _delete_run(self, run_id: str) -> None:
        StoredFiles(self.connection, run_id).delete()
        self.connection.client.delete_run(run_id)


def _from_mlflow(stored: "ModelVersion", alias_targets: dict[str, int]) -> Version:
    stored_tags: dict[str, Any] = stored.tags or {}
    number = int(stored.version)
    figures = {
        key: float(stored_tags[key]) for key in (tags.PROBE_ACCURACY, tags.NEIGHBOUR_CONSISTENCY) if key in stored_tags
    }
    return Version(
        name=stored.name,
        version=number,
        run_id=stored.run_id or "",
        release=stored_tags.get(tags.RELEASE, ""),
        sha256=stored_tags.get(tags.SHA256, ""),
        probe_accuracy=figures.get(tags.PROBE_ACCURACY),
        neighbour_consistency=figures.get(tags.NEIGHBOUR_CONSISTENCY),
        test_data=stored_tags.get(tags.TEST_DATA, ""),
        created=datetime.fromtimestamp(stored.creation_timestamp / 1000, UTC),
        aliases=tuple(sorted(alias for alias, target in alias_targets.items() if target == number)),
    )
