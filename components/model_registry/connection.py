"""The connection to MLflow: the server of `MLFLOW_TRACKING_URI`, or the embedded registry."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from components import file_lock
from components.model_registry import embedded
from components.model_registry.credentials import without_credentials
from components.model_registry.errors import ignoring, readable_errors
from trainer.errors import SettingsError

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: The environment variable that holds the address of the MLflow server.
SERVER_VARIABLE = "MLFLOW_TRACKING_URI"


class Connection:
    """A connection to a server, or to an embedded registry, which is created if it does not exist.

    Credentials never pass through here: the clients of MLflow and of Cloud Storage take them from the environment.

    Args:
        embedded_directory: The local folder of the embedded registry, used when no server is set.
        artifact_location: The folder of the files of models that are new to the registry, a local path or a
            URI; by default the server's own, or the one in the embedded registry.

    Attributes:
        uri: The address of the registry for MLflow's clients. It may hold credentials.
        client: MLflow's client.
        root: The folder of the embedded registry, an absolute path; None if the registry is a server.

    Raises:
        RegistryError: If the registry cannot be opened.
        SettingsError: If neither a server nor a folder is given.
    """

    uri: str
    client: "MlflowClient"
    root: Path | None

    def __init__(self, embedded_directory: str, artifact_location: str | None = None):
        # MLflow's progress bars would break up those of nnclr.
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        # With MLflow's pauses of 4, 8, 16 and 32 s, the client gives a silent server up after a minute.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
        server = os.environ.get(SERVER_VARIABLE)
        if server:
            self.uri, self.root = server, None
            self._artifact_location = artifact_location
            with self.readable_errors():
                self.client = _client(self.uri)
        elif embedded_directory:
            Path(embedded_directory).mkdir(parents=True, exist_ok=True)
            root = Path(embedded_directory).resolve()
            self.uri, self.root = embedded.uri(root), root
            self._artifact_location = artifact_location or embedded.artifact_location(root)
            with self.readable_errors():
                self.client = self._open_embedded(root)
        else:
            raise SettingsError(f"There is no model registry: name the MLflow server in {SERVER_VARIABLE}.")

    def _open_embedded(self, root: Path) -> "MlflowClient":
        if embedded.is_prepared(root):
            return _client(self.uri)
        with self.locked():
            # The client may create the tables as soon as it exists, if there are none.
            embedded.create(root)
            client = _client(self.uri)
            embedded.prepare(root, client)
            return client

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from changing an embedded registry; a server offers no lock."""
        if self.root is None:
            yield
            return
        with file_lock.locked(embedded.lock_path(self.root)):
            yield

    def readable_errors(self) -> AbstractContextManager[None]:
        """Turns the errors of the registry and of its storage into a `RegistryError`, which names the registry."""
        if self.root:
            return readable_errors(f"the embedded model registry {self.root}")
        return readable_errors(f"the MLflow server {without_credentials(self.uri)} ({SERVER_VARIABLE})")

    def experiment_id(self, name: str) -> str:
        """Returns the id of an MLflow experiment, which is created if it does not exist."""
        experiment = self.client.get_experiment_by_name(name)
        if experiment:
            return experiment.experiment_id
        location = f"{self._artifact_location.rstrip('/')}/{name}" if self._artifact_location else None
        with ignoring("RESOURCE_ALREADY_EXISTS"):
            return self.client.create_experiment(name, artifact_location=location)
        return self.client.get_experiment_by_name(name).experiment_id

    def version_page(self, name: str, version: int) -> str | None:
        """Returns the address of a version's page on the server, without credentials; None without a server."""
        if not self.uri.startswith(("http://", "https://")):
            return None
        server = without_credentials(self.uri).rstrip("/")
        return f"{server}/#/models/{quote(name)}/versions/{version}"


def _client(uri: str) -> "MlflowClient":
    import mlflow

    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
