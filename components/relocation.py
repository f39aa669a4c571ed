"""Databases that hold absolute paths below a folder, and follow where that folder is copied or moved.

MLflow and ML Metadata record where files are by absolute path. A table of nnclr's own in the same database records the
folder itself; where the folder is found at another place, all paths below it are rewritten in one transaction. So a
copy never reads, writes or deletes what lies in the original.
"""

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

_TABLE = "nnclr_location"
_WAIT_SECONDS = 60


def is_settled(database: Path, root: Path) -> bool:
    """Whether a database exists and records `root` as its folder."""
    if not database.exists():
        return False
    with closing(_connection(database)) as connection:
        return _recorded(connection) == str(root)


def former_root(database: Path, root: Path, shown_in: tuple[str, str, str]) -> Path | None:
    """The folder that a database belonged to before, if that is not `root`.

    Args:
        database: sqlite file, which exists.
        root: absolute path of the folder in which it was found.
        shown_in: table, column and a regular expression with the group `root`: where the folder shows if none was
            recorded, as in databases of nnclr 0.1.0.
    """
    with closing(_connection(database)) as connection:
        former = _recorded(connection)
        table, column, pattern = shown_in
        if former is None and _has(connection, table, column):
            values = connection.execute(f"SELECT {column} FROM {table}")
            matches = (re.fullmatch(pattern, value or "") for (value,) in values)
            former = next((unquote(match["root"].removeprefix("file://")) for match in matches if match), None)
    return None if former in (None, str(root)) else Path(str(former))


def settle(database: Path, root: Path, columns: Iterable[tuple[str, str]], former: Path | None) -> None:
    """Makes a database say that its folder is `root`.

    Args:
        database: sqlite file, which exists.
        root: absolute path of the folder.
        columns: table and column of every value that may be a path or a `file://` URI below the folder. Those that this
            database does not have are passed over.
        former: see `former_root`.
    """
    with closing(_connection(database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        if former is not None:
            for table, column in columns:
                if _has(connection, table, column):
                    for old, new in ((str(former), str(root)), (former.as_uri(), root.as_uri())):
                        _replace_beginning(connection, table, column, old, new)
        connection.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} (root TEXT NOT NULL)")
        connection.execute(f"DELETE FROM {_TABLE}")
        connection.execute(f"INSERT INTO {_TABLE} VALUES (?)", [str(root)])
        connection.commit()


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
