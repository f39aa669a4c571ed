"""Tables that a command writes as CSV files, local or in a bucket."""

import csv
import io
from collections.abc import Iterable, Sequence

from components import artifact_files
from trainer import storage
from trainer.errors import SettingsError

_ENDING = ".csv"


def require_new(path: str) -> None:
    """Refuses a path that is no CSV file's, or that exists: a person may have worked on the file.

    Raises:
        SettingsError: If the table cannot be written there.
    """
    if not path.endswith(_ENDING):
        raise SettingsError(f"{path} does not end in {_ENDING}: name a table for the results.")
    with storage.explained(path, SettingsError):
        if artifact_files.exists(path):
            raise SettingsError(f"{path} already exists: name another file, or delete it.")


def write(path: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table in UTF-8 with a line of column names.

    Raises:
        SettingsError: If the storage fails.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    with storage.explained(path, SettingsError):
        artifact_files.write(path, text.getvalue().encode())
