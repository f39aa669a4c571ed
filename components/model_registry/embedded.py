"""The embedded registry: a sqlite database and files below one local folder, which may be copied or moved."""

from pathlib import Path
from typing import TYPE_CHECKING

from components import relocation
from components.model_registry.paging import all_pages
from components.model_registry.tags import SERVING_DIRECTORY
from trainer import aside

if TYPE_CHECKING:
    from mlflow import MlflowClient

# A file that marks the copy of a registry: both registries use the files outside of their folders.
_COPY_MARK = ".copied"
# The columns of MLflow's tables that hold paths.
_PATH_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("registered_model_tags", "value"),
)
# A column that shows the folder of a registry by nnclr 0.1.0, which did not record it.
_ROOT_PATTERN = ("experiments", "artifact_location", r"(?P<root>.+/registry)/artifacts/[^/]+")


def uri(root: Path) -> str:
    """Returns the address of the registry below an absolute folder, for MLflow's clients."""
    return f"sqlite:///{_database(root)}"


def lock_path(root: Path) -> Path:
    """Returns the path of the file whose lock keeps other processes from changing the registry."""
    return root / ".lock"


def artifact_location(root: Path) -> str:
    """Returns the URI of the folder that holds the versions' files by default."""
    return (root / "artifacts").as_uri()


def is_prepared(root: Path) -> bool:
    """Returns whether the registry's tables exist and its paths lie below `root`."""
    return relocation.is_recorded(_database(root), root)


def is_copy(root: Path) -> bool:
    """Returns whether the registry was copied from another one that still existed then."""
    return (root / _COPY_MARK).exists()


def create(root: Path) -> None:
    """Creates the registry's database unless it exists.

    It is created aside and renamed, because MLflow can use no database in which a killed process created only some of
    the tables. The caller holds the registry's lock, because two processes that create the tables at once disturb each
    other.

    Args:
        root: The registry's folder, an absolute path.
    """
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    database = _database(root)
    if database.exists():
        return
    # Nobody else writes them, because of the lock.
    for abandoned in root.glob(f".{database.name}.*"):
        abandoned.unlink()
    unfinished = Path(aside.beside(str(database)))
    with aside.discarded_on_failure(unfinished.unlink):
        store = SqlAlchemyStore(f"sqlite:///{unfinished}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
        store.engine.dispose()
        unfinished.rename(database)


def prepare(root: Path, client: "MlflowClient") -> None:
    """Rewrites all paths of the registry if its folder was copied or moved. The caller holds the registry's lock.

    Args:
        root: The registry's folder, an absolute path.
        client: A client of the registry, which was created while the lock was held.
    """
    former_root = relocation.former_root(_database(root), root, _ROOT_PATTERN)
    copied = former_root is not None and _database(former_root).exists()
    if copied:
        (root / _COPY_MARK).touch()
    relocation.relocate(_database(root), root, _PATH_COLUMNS, former_root)
    if former_root:
        _forget_served_folders(client, copied)


def _database(root: Path) -> Path:
    return root / "mlflow.db"


def _forget_served_folders(client: "MlflowClient", copied: bool) -> None:
    """Keeps a copy from publishing into the original's folder, and a moved registry into one that is gone."""
    for model in all_pages(client.search_registered_models):
        folder = model.tags.get(SERVING_DIRECTORY)
        if folder and (copied or ("://" not in folder and not Path(folder).exists())):
            client.delete_registered_model_tag(model.name, SERVING_DIRECTORY)
