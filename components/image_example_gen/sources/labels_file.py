"""`labels.csv`: the labels of pictures that do not lie in the folders of their classes."""

import csv
import io
from dataclasses import dataclass

from trainer.errors import DataError

#: Name of the file beside the pictures.
LABELS_FILE = "labels.csv"
#: Its columns, of which the last may be missing.
COLUMNS = ("file", "label", "split")


@dataclass(frozen=True)
class Row:
    """What the file says about one picture.

    Attributes:
        label: The name of the class; empty if the picture is unlabelled.
        split: The split; empty if it is not given.
        line: Number of the line, counted from 1.
    """

    label: str
    split: str
    line: int


def parse(path: str, content: bytes) -> dict[str, Row]:
    """Reads the labels: a header `file,label` or `file,label,split`, and one line for each picture.

    Args:
        path: The file's path, for messages.
        content: The file's bytes.

    Returns:
        The rows by the pictures' paths, relative to the folder of the file.

    Raises:
        DataError: If the file is no such table, or gives a picture two labels.
    """
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        columns = tuple(reader.fieldnames or ())
        if columns not in (COLUMNS, COLUMNS[:2]):
            raise DataError(
                f"{path} starts with the columns {', '.join(columns) or 'of an empty line'}: its first line must be "
                "file,label or file,label,split."
            )
        rows: dict[str, Row] = {}
        for fields in reader:
            line = reader.line_num
            if None in fields or None in fields.values():
                raise DataError(f"{path}, line {line}, does not have {len(columns)} columns: quote names with commas.")
            name, row = fields["file"].strip(), Row(fields["label"].strip(), fields.get("split", "").strip(), line)
            name = name.removeprefix("./")
            if name in rows:
                raise DataError(
                    f"{path}, line {line}, names {name} again, with the label {row.label!r} after "
                    f"{rows[name].label!r}: a picture has one label. Data sets with several labels for a picture are "
                    "not supported."
                )
            rows[name] = row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a table in UTF-8: {error}.") from error
    return rows
