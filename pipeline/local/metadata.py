"""The metadata store of a working directory: prepared so that it fits what lies in the folder."""

import sqlite3
from contextlib import closing
from pathlib import Path

from ml_metadata.proto import metadata_store_pb2

from components import relocation
from pipeline.local.workdir import Workdir
from trainer.errors import UserError

_LOCATIONS = (("Artifact", "uri"),)
_ROOT_IN = ("Artifact", "uri", r"(?P<root>.+)/artifacts/[^/]+/[^/]+/\d+")


def connection(workdir: Workdir) -> metadata_store_pb2.ConnectionConfig:
    """How TFX and ML Metadata open the store."""
    from tfx.orchestration.metadata import sqlite_metadata_connection_config

    return sqlite_metadata_connection_config(str(workdir.metadata.resolve()))


def prepare(workdir: Workdir) -> Path | None:
    """Makes the store if there is none, and its locations and ids those of the folder.

    In a folder that was copied or moved, all locations become the folder's own. Where the store is new and artifacts of
    an earlier one lie there still, ids go on after theirs, so that no run writes into a folder that is not empty.

    Args:
        workdir: locked.

    Returns:
        The folder that the store belonged to before, if it was another one.

    Raises:
        UserError: the store is damaged.
    """
    from ml_metadata import metadata_store

    database, root = workdir.metadata.resolve(), workdir.root.resolve()
    former = None
    try:
        if not relocation.is_recorded(database, root):
            # Makes the tables.
            metadata_store.MetadataStore(connection(workdir))
            former = relocation.former_root(database, root, _ROOT_IN)
            relocation.relocate(database, root, _LOCATIONS, former)
        _continue_ids(database, _highest_id(workdir.artifacts))
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"{database} cannot be used: {error}. If it is damaged, move it away: the next run starts anew, beside the "
            "artifacts that lie there."
        ) from error
    return former


def _highest_id(artifacts: Path) -> int:
    """Of the executions that left a folder `COMPONENT/OUTPUT/ID`."""
    return max((int(path.name) for path in artifacts.glob("*/*/*") if path.name.isdigit()), default=0)


def _continue_ids(database: Path, highest: int) -> None:
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'Execution'").fetchone()
        if row is None and highest:
            connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('Execution', ?)", [highest])
        elif row and row[0] < highest:
            connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'Execution'", [highest])
