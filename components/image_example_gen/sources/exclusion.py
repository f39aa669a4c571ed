"""The list of files that a run leaves out, `data.exclude`."""

import json

from components.image_example_gen.sources import files
from trainer.errors import DataError

#: Why a file is left out that the list names, and why a name of the list is reported.
EXCLUDED, MISSING = "excluded", "in data.exclude, but not found"


def read(path: str | None) -> frozenset[str]:
    """Reads a list from a local path or URI; no path stands for an empty list. See `parse`."""
    return parse(path, files.read(path)) if path else frozenset()


def parse(path: str, content: bytes) -> frozenset[str]:
    """Reads the names of files: one on each line, or objects with the field `id`, as in `rejected.jsonl`.

    Args:
        path: The list's path, for messages.
        content: The list's bytes.

    Returns:
        The paths relative to the source.

    Raises:
        DataError: If a line is neither.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file in UTF-8: {error}.") from error
    names = set()
    for number, line in enumerate(lines, start=1):
        if line.startswith("{"):
            try:
                names.add(str(json.loads(line)["id"]))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise DataError(f"{path}, line {number}, is no JSON object with the field id: {line[:80]}.") from error
        elif line.strip():
            names.add(line.strip().removeprefix("./"))
    return frozenset(names)
