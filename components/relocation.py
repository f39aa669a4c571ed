"""Databases that hold absolute paths below a folder, and are corrected after that folder was copied or moved.

MLflow and ML Metadata record the absolute paths of files. A table of nnclr's own in the same database records the
folder. If the folder has another path now, all paths below the recorded one are rewritten in one transaction, so that a
copy never reads, writes or deletes the original's files.
"""

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

# SQLite takes no parameters for the names of tables and columns. All names in the statements below are constants of
# nnclr, never foreign text, which is why each of these statements is exempt from S608.
_TABLE = "nnclr_location"
_LOCK_TIMEOUT_SECONDS = 60


def is_recorded(database: Path, root: Path) -> bool:
    """Returns whether a database exists and records `root` as its folder."""
    if not database.exists():
        return False
    with closing(_connect(database)) as connection:
        return _recorded_root(connection) == str(root)


def former_root(database: Path, root: Path, pattern: tuple[str, str, str]) -> Path | None:
    """Returns the folder that a database belonged to before, if it is not `root`.

    Args:
        database: The sqlite file, which exists.
        root: The absolute path of the folder that holds the database now.
        pattern: A table, a column and a regular expression with the group `root`. They find the former folder in a
            database that records none, such as those of nnclr 0.1.0.
    """
    with closing(_connect(database)) as connection:
        former = _recorded_root(connection)
        table, column, expression = pattern
        if former is None and _has_column(connection, table, column):
            values = connection.execute(f"SELECT {column} FROM {table}")  # noqa: S608
            matches = (re.fullmatch(expression, value or "") for (value,) in values)
            former = next((unquote(match["root"].removeprefix("file://")) for match in matches if match), None)
    return None if former in (None, str(root)) else Path(str(former))


def relocate(database: Path, root: Path, columns: Iterable[tuple[str, str]], former: Path | None) -> None:
    """Rewrites the paths below the former folder, if any, and records `root` as the database's folder.

    Args:
        database: The sqlite file, which exists.
        root: The absolute path of the folder that holds the database now.
        columns: The table and the column of every value that may be a path or a `file://` URI below the folder. Columns
            that the database does not have are ignored.
        former: The folder that the database belonged to before, from `former_root`.
    """
    with closing(_connect(database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        if former is not None:
            for table, column in columns:
                if _has_column(connection, table, column):
                    for old, new in ((str(former), str(root)), (former.as_uri(), root.as_uri())):
                        _replace_prefix(connection, table, column, old, new)
        connection.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} (root TEXT NOT NULL)")
        connection.execute(f"DELETE FROM {_TABLE}")  # noqa: S608
        connection.execute(f"INSERT INTO {_TABLE} VALUES (?)", [str(root)])  # noqa: S608
        connection.commit()


def _connect(database: Path) -> sqlite3.Connection:
    # Without an isolation level, sqlite3 begins no transactions of its own.
    return sqlite3.connect(database, timeout=_LOCK_TIMEOUT_SECONDS, isolation_level=None)


def _recorded_root(connection: sqlite3.Connection) -> str | None:
    if not _has_column(connection, _TABLE, "root"):
        return None
    row = connection.execute(f"SELECT root FROM {_TABLE}").fetchone()  # noqa: S608
    return row[0] if row else None


def _has_column(connection: sqlite3.Connection, table: str, column: str) -> bool:
    return column in [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _replace_prefix(connection: sqlite3.Connection, table: str, column: str, old: str, new: str) -> None:
    """Replaces the path `old` with `new` where a value is that path or begins with it as a folder."""
    connection.execute(
        f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "  # noqa: S608
        f"WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'",
        {"old": old, "new": new},
    )
