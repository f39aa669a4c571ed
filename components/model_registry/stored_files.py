"""The files of a version in the registry's storage, where they are an artifact of the version's MLflow run."""

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from components.model_registry import embedded
from components.model_registry.connection import Connection
from components.model_registry.credentials import without_credentials

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

logger = logging.getLogger("nnclr")

# The run's artifact folder that holds the version's files.
_FOLDER = "model"


class StoredFiles:
    """The files of one version.

    Args:
        connection: The connection to the registry.
        run_id: The id of the version's MLflow run.
    """

    def __init__(self, connection: Connection, run_id: str):
        self._connection, self._run_id = connection, run_id

    @property
    def source(self) -> str:
        """The address under which a version is created; it names the run, as servers accept no local paths."""
        return f"runs:/{self._run_id}/{_FOLDER}"

    @property
    def location(self) -> str:
        """The path or URI of the run's artifacts, without credentials."""
        return without_credentials(self._storage.artifact_uri)

    def exist(self) -> bool:
        """Returns whether the storage holds any of the files; a storage that does not answer raises instead."""
        return bool(self._storage.list_artifacts(_FOLDER))

    def upload(self, directory: Path) -> None:
        """Stores the files below a local directory over the stored ones, of which none is deleted."""
        self._connection.client.log_artifacts(self._run_id, str(directory), _FOLDER)

    def download(self, directory: str) -> Path:
        """Copies the files below a local directory, which is created; returns the folder that holds them."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        self._storage.download_artifacts(_FOLDER, directory)
        return Path(directory, _FOLDER)

    def delete(self) -> None:
        """Deletes the files, unless the registry is a copy and the files lie outside of its folder."""
        root = self._connection.root
        if root and embedded.is_copy(root) and not _is_below(self._storage.artifact_uri, root):
            logger.warning("%s is not deleted: the registry was copied from another one, which uses it.", self.location)
            return
        self._storage.delete_artifacts()

    @cached_property
    def _storage(self) -> "ArtifactRepository":
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        # MLflow's own downloads by runs:/ addresses report every failure as the same error.
        uri = self._connection.uri
        artifact_uri = self._connection.client.get_run(self._run_id).info.artifact_uri
        return get_artifact_repository(artifact_uri, tracking_uri=uri, registry_uri=uri)


def _is_below(location: str, root: Path) -> bool:
    from mlflow.utils.file_utils import local_file_uri_to_path

    return "://" not in location.removeprefix("file://") and Path(local_file_uri_to_path(location)).is_relative_to(root)
