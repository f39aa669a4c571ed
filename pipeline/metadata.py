"""The metadata store of a working directory: prepared so that it fits what lies in the folder."""

import sqlite3
from contextlib import closing
from pathlib import Path

from components import relocation
from pipeline.workdir import Workdir

_LOCATIONS = (("Artifact", "uri"),)


def prepare(workdir: Workdir) -> Path | None:
    """Makes the store if there is none, and its locations and ids those of the folder.

    In a folder that was copied or moved, all locations become the folder's own. Where the store is new and artifacts of
    an earlier one lie there still, ids go on after theirs, so that no run writes into a folder that is not empty.

    Args:
        workdir: locked.

    Returns:
        The folder that the store belonged to before, if it was another one.
    """
    from ml_metadata import metadata_store
    from tfx.orchestration.metadata import sqlite_metadata_connection_config

    database, root = workdir.metadata.resolve(), workdir.root.resolve()
    former = None
    if not relocation.is_settled(database, root):
        # Makes the tables.
        metadata_store.MetadataStore(sqlite_metadata_connection_config(str(database)))
        former = relocation.settle(database, root, _LOCATIONS)
    _continue_ids(database, _highest_id(workdir.artifacts))
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
