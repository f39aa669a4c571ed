"""The model registry as the rest of nnclr sees it."""

from collections.abc import Iterator
from contextlib import contextmanager

from components.model_registry import history, tags
from components.model_registry.aliases import Aliases, alias_targets
from components.model_registry.config import CHALLENGER
from components.model_registry.connection import Connection
from components.model_registry.errors import ignoring
from components.model_registry.history import Move
from components.model_registry.versions import Version, Versions


class ModelRegistry(Versions, Aliases):
    """An MLflow Model Registry: the server of `MLFLOW_TRACKING_URI`, or an embedded registry.

    What it offers stands in `Versions` and `Aliases`, and here what needs both.

    Args:
        embedded_directory: The local folder of the embedded registry, used when no server is set.
        artifact_location: The folder of the files of models that are new to the registry, a local path or a
            URI; by default the server's own, or the one in the embedded registry.

    Attributes:
        connection: The connection to MLflow.

    Raises:
        RegistryError: If the registry cannot be opened.
        SettingsError: If neither a server nor a folder is given.
    """

    def __init__(self, embedded_directory: str, artifact_location: str | None = None):
        self.connection = Connection(embedded_directory, artifact_location)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from changing an embedded registry; a server offers no lock."""
        with self.connection.locked():
            yield

    def tag(self, name: str, key: str) -> str | None:
        """Returns the value of a registered model's tag; None if the tag is missing."""
        with self.connection.readable_errors():
            return self.connection.client.get_registered_model(name).tags.get(key)

    def set_tag(self, name: str, key: str, value: str) -> None:
        """Sets a tag of a registered model."""
        with self.connection.readable_errors():
            self.connection.client.set_registered_model_tag(name, key, value)

    def challenge(self, name: str, alias: str, version: int, by: str, reason: str) -> None:
        """Makes a version the challenger, which waits until a person promotes it. It replaces the present challenger.

        Args:
            name: The name of the registered model.
            alias: The alias that a promotion gives to the version.
            version: The version's number.
            by: The author, a pipeline run.
            reason: The reason, a sentence.
        """
        self.set_tag(name, tags.CHALLENGER_FOR, alias)
        self.move_alias(name, Move(CHALLENGER, None, version, history.PUSH, by, reason))

    def end_challenge(self, name: str, alias: str) -> None:
        """Removes the alias `challenger` from a version that has the alias it waited for; changes nothing otherwise.

        Args:
            name: The name of the registered model.
            alias: An alias that was moved. A promotion to another one, for a trial, leaves the challenger waiting.
        """
        if self.tag(name, tags.CHALLENGER_FOR) != alias:
            return
        with self.connection.readable_errors():
            targets = alias_targets(self.connection, name)
            if CHALLENGER in targets and targets[CHALLENGER] == targets.get(alias):
                with ignoring("RESOURCE_DOES_NOT_EXIST"):
                    self.connection.client.delete_registered_model_alias(name, CHALLENGER)

    def rollback_target(self, name: str, alias: str) -> Version | None:
        """Returns the version that a rollback of an alias goes to, as `history.rollback_target` defines it.

        Returns:
            The version; None if the alias does not exist, or there is no version to roll back to.
        """
        versions = {version.version: version for version in self.versions(name)}
        current = next((number for number, version in versions.items() if alias in version.aliases), None)
        if current is None:
            return None
        target = history.rollback_target(self.history(name), alias, current, versions)
        return versions[target] if target is not None else None

    def best_release(self, name: str, alias: str) -> Version | None:
        """Returns the release with the highest recorded accuracy, if that is higher than the champion's.

        A release is a version that the alias pointed to and that no rollback left. Releases without an accuracy, which
        were made without labels, are ordered by their neighbour consistency.

        Returns:
            The version; None if the champion is the best release, or if there is no champion.
        """
        versions = {version.version: version for version in self.versions(name)}
        champion = next((version for version in versions.values() if alias in version.aliases), None)
        if champion is None:
            return None
        numbers = history.releases(self.history(name), alias, champion.version)
        released = [versions[number] for number in numbers if number in versions]
        best = max(released, key=lambda version: (_figures(version), version.version))
        return best if _figures(best) > _figures(champion) else None

    def versions_to_prune(self, name: str, keep: int) -> list[Version]:
        """Returns the versions beyond the newest `keep`, without those that are still needed.

        An alias needs its version, the one that a rollback goes to, and the best release, which the next candidate is
        compared with. The challenger needs its version only: those that it replaced were never released.

        Args:
            name: The name of the registered model.
            keep: How many of the newest versions stay in any case.
        """
        versions = self.versions(name)
        aliases = {alias for version in versions for alias in version.aliases} - {CHALLENGER}
        targets = [find(name, alias) for alias in sorted(aliases) for find in (self.rollback_target, self.best_release)]
        needed = {version.version for version in targets if version}
        return [version for version in versions[keep:] if not version.aliases and version.version not in needed]


def _figures(version: Version) -> tuple[float, float]:
    return version.probe_accuracy or 0.0, version.neighbour_consistency or 0.0
