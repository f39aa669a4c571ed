"""The ML Metadata store of a working directory, kept consistent with the files in the folder."""

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
    """Returns the connection settings with which TFX and ML Metadata open the store."""
    from tfx.orchestration.metadata import sqlite_metadata_connection_config

    return sqlite_metadata_connection_config(str(workdir.metadata.resolve()))


def prepare(workdir: Workdir) -> Path | None:
    """Creates the store if it is missing, and adapts its paths and ids to the folder.

    If the folder was copied or moved, all recorded paths are changed to the new location. If the store is new but
    artifacts of an earlier store exist, execution ids continue after theirs, so that no run writes into an existing
    folder.

    Args:
        workdir: The working directory, which the caller has locked.

    Returns:
        The former path of the working directory, if it was copied or moved.

    Raises:
        UserError: If the store is damaged.
    """
    from ml_metadata import metadata_store

    database, root = workdir.metadata.resolve(), workdir.root.resolve()
    former = None
    try:
        if not relocation.is_recorded(database, root):
            # Creates the tables.
            metadata_store.MetadataStore(connection(workdir))
            former = relocation.former_root(database, root, _ROOT_IN)
            relocation.relocate(database, root, _LOCATIONS, former)
        _continue_ids(database, _highest_id(workdir.artifacts))
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"{database} cannot be used: {error}. If it is damaged, move it elsewhere: the next run creates a new "
            "one and keeps the existing artifacts."
        ) from error
    return former


def _highest_id(artifacts: Path) -> int:
    """Returns the highest execution id among the folders `COMPONENT/OUTPUT/ID`, or 0 if there are none."""
    return max((int(path.name) for path in artifacts.glob("*/*/*") if path.name.isdigit()), default=0)


def _continue_ids(database: Path, highest: int) -> None:
    """Makes the store assign execution ids above `highest`."""
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'Execution'").fetchone()
        if row is None and highest:
            connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('Execution', ?)", [highest])
        elif row and row[0] < highest:
            connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'Execution'", [highest])
