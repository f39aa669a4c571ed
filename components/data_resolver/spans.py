"""Dated sources: `gs://bucket/images/{YYYY}-{MM}-{DD}` names many spans of data, of which the newest complete counts.

The words are TFX's (`{SPAN}` a number, `{YYYY}`, `{MM}`, `{DD}` a date); its own ExampleGens resolve them in a driver,
which Kubeflow Pipelines never runs.
"""

import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from components.image_example_gen.sources.files import join
from trainer.errors import DataError, SettingsError

_FIELDS = {"YYYY": r"\d{4}", "MM": r"\d{2}", "DD": r"\d{2}", "SPAN": r"\d+"}
_PLACEHOLDER = re.compile(r"\{([A-Za-z]+)\}")
# Hadoop's and Spark's mark of a folder that is whole.
MARK = "_SUCCESS"
_CLOUD = "gs://"


@dataclass(frozen=True)
class Span:
    """One dated part of a source: its path, its name (`2026-11-24`, or the digits of `{SPAN}`), what orders it."""

    path: str
    name: str
    order: tuple[int, ...]


@dataclass(frozen=True)
class Newest:
    """The span that counts, and in a sentence each the newer ones that do not yet."""

    span: Span
    passed_over: tuple[str, ...] = ()


def is_pattern(source: str) -> bool:
    """Whether a source names spans instead of one place."""
    return bool(_PLACEHOLDER.search(source))


def newest(pattern: str, wanted: str | None = None, settled_minutes: float | None = 10.0) -> Newest:
    """Finds the newest complete span.

    Complete is a folder with a file `_SUCCESS`, and also what has not changed for a while.

    Args:
        pattern: local or `gs://`.
        wanted: name of the span to take instead of the newest.
        settled_minutes: how long nothing in it must have changed; None if only `_SUCCESS` counts.

    Raises:
        SettingsError: the pattern has an unknown placeholder, or none is of this name.
        DataError: no span is complete.
    """
    spans = sorted(_spans(pattern), key=lambda span: span.order, reverse=True)
    if wanted:
        known = ", ".join(span.name for span in spans[:10]) or "none"
        spans = [span for span in spans if span.name == wanted]
        if not spans:
            raise SettingsError(f"{pattern} has no span {wanted} (data.span); there are: {known}.")
    passed_over: list[str] = []
    for span in spans:
        problem = _incomplete(span, settled_minutes)
        if not problem:
            return Newest(span, tuple(passed_over))
        passed_over.append(f"{span.path} does not count yet: {problem}.")
    reasons = " ".join(passed_over) or "nothing has such a name."
    raise DataError(f"{pattern}: no span is complete: {reasons}")


def _spans(pattern: str) -> Iterator[Span]:
    unknown = [name for name in _PLACEHOLDER.findall(pattern) if name not in _FIELDS]
    if unknown:
        raise SettingsError(
            f"data.source {pattern!r} has the unknown placeholder {{{unknown[0]}}}; known are {{YYYY}}, {{MM}}, {{DD}} "
            "and {SPAN}."
        )
    start = _PLACEHOLDER.search(pattern)
    assert start is not None
    base, _, _ = pattern[: start.start()].rpartition("/")
    segments = pattern[len(base) :].strip("/").split("/")
    found: list[tuple[str, dict[str, str]]] = [(base or ("/" if pattern.startswith("/") else "."), {})]
    for segment in segments:
        if is_pattern(segment):
            expression = _as_expression(segment)
            found = [
                (join(path, name), fields | match.groupdict())
                for path, fields in found
                for name in _names(path)
                if (match := expression.fullmatch(name)) and _agrees(fields, match.groupdict())
            ]
        else:
            found = [(join(path, segment), fields) for path, fields in found]
    for path, fields in found:
        date = "-".join(fields[field] for field in ("YYYY", "MM", "DD") if field in fields)
        name = ".".join(part for part in (date, fields.get("SPAN")) if part)
        yield Span(path, name, tuple(int(fields.get(field, 0)) for field in _FIELDS))


def _agrees(known: dict[str, str], found: dict[str, str]) -> bool:
    """Whether a date that is named twice in a path is the same date."""
    return all(known.get(field, value) == value for field, value in found.items())


def _as_expression(segment: str) -> re.Pattern[str]:
    pieces, seen = [], set()
    for index, piece in enumerate(_PLACEHOLDER.split(segment)):
        if index % 2 == 0:
            pieces.append(re.escape(piece))
        elif piece in seen:
            pieces.append(f"(?P={piece})")
        else:
            seen.add(piece)
            pieces.append(f"(?P<{piece}>{_FIELDS[piece]})")
    return re.compile("".join(pieces))


def _incomplete(span: Span, settled_minutes: float | None) -> str | None:
    """What is missing, in a clause."""
    marked, changed = _state(span.path)
    if marked:
        return None
    if changed is None:
        return "it is empty"
    if settled_minutes is None:
        return f"it has no {MARK}"
    minutes = (time.time() - changed) / 60
    if minutes < settled_minutes:
        return (
            f"it has no {MARK} and changed {max(minutes, 0):.0f} minutes ago, less than the {settled_minutes:g} of "
            "data.settled_minutes"
        )
    return None


def _names(directory: str) -> list[str]:
    """Names of what lies in a directory; none if there is no such directory."""
    if directory.startswith(_CLOUD):
        bucket, _, prefix = directory.removeprefix(_CLOUD).partition("/")
        prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        listed = _cloud().list_blobs(bucket, prefix=prefix, delimiter="/")
        files = [blob.name for blob in listed]
        return [name.removeprefix(prefix).rstrip("/") for name in (*files, *listed.prefixes) if name != prefix]
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _state(path: str) -> tuple[bool, float | None]:
    """Whether a folder or file is marked as whole, and when something in it changed last (None if it is empty)."""
    if path.startswith(_CLOUD):
        bucket, _, prefix = path.removeprefix(_CLOUD).partition("/")
        marked, changed = False, None
        for blob in _cloud().list_blobs(bucket, prefix=prefix):
            # The console makes an object of a folder's name.
            if blob.name == prefix or (blob.name.startswith(f"{prefix}/") and not blob.name.endswith("/")):
                marked = marked or blob.name == f"{prefix}/{MARK}"
                changed = max(changed or 0.0, blob.updated.timestamp())
        return marked, changed
    # Of the inode: times of contents are often copied along with them.
    files = [Path(path)] if os.path.isfile(path) else Path(path).rglob("*")
    return Path(path, MARK).is_file(), max((time for file in files if (time := _changed(file))), default=None)


def _changed(file: Path) -> float | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        # Whoever uploads has just renamed it: its folder says when.
        return None
    return status.st_ctime if stat.S_ISREG(status.st_mode) else None


def _cloud():
    """Google's client with the credentials that ingest has."""
    from apache_beam.io.gcp.gcsio import GcsIO

    return GcsIO().client
