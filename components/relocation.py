"""Databases that hold absolute paths below a folder, and follow where that folder is copied or moved.

MLflow and ML Metadata record where files are by absolute path. A table of nnclr's own in the same database records the
folder itself; where the folder is found at another place, all paths below it are rewritten in one transaction. So a
copy never reads, writes or deletes what lies in the original.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

_TABLE = "nnclr_location"
_WAIT_SECONDS = 60


def is_settled(database: Path, root: Path) -> bool:
    """Whether a database exists and records `root` as its folder."""
    if not database.exists():
        return False
    with closing(_connection(database)) as connection:
        return _recorded(connection) == str(root)


def settle(database: Path, root: Path, columns: Iterable[tuple[str, str]]) -> Path | None:
    """Makes a database say that its folder is `root`.

    Args:
        database: sqlite file, which exists.
        root: absolute path of the folder.
        columns: table and column of every value that may be a path or a `file://` URI below the folder. Those that this
            database does not have are passed over.

    Returns:
        The folder that was recorded before, if it was another one.
    """
    with closing(_connection(database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        former = _recorded(connection)
        if former == str(root):
            connection.rollback()
            return None
        if former is not None:
            for table, column in columns:
                if _has(connection, table, column):
                    for old, new in ((former, str(root)), (Path(former).as_uri(), root.as_uri())):
                        _replace_beginning(connection, table, column, old, new)
        connection.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} (root TEXT NOT NULL)")
        connection.execute(f"DELETE FROM {_TABLE}")
        connection.execute(f"INSERT INTO {_TABLE} VALUES (?)", [str(root)])
        connection.commit()
    return Path(former) if former is not None else None


def _connection(database: Path) -> sqlite3.Connection:
    # Transactions are begun and ended by hand.
    return sqlite3.connect(database, timeout=_WAIT_SECONDS, isolation_level=None)


def _recorded(connection: sqlite3.Connection) -> str | None:
    if not _has(connection, _TABLE, "root"):
        return None
    row = connection.execute(f"SELECT root FROM {_TABLE}").fetchone()
    return row[0] if row else None


def _has(connection: sqlite3.Connection, table: str, column: str) -> bool:
    return column in [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _replace_beginning(connection: sqlite3.Connection, table: str, column: str, old: str, new: str) -> None:
    connection.execute(
        f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "
        f"WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'",
        {"old": old, "new": new},
    )
