"""Resolves a source with placeholders, such as `gs://bucket/images/{YYYY}-{MM}-{DD}`, to its newest complete span.

Spans and placeholders are TFX's: `{SPAN}` stands for a number, and `{YYYY}`, `{MM}` and `{DD}` for a date. TFX's own
ExampleGens resolve them in a driver, which Kubeflow Pipelines never runs.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from components.image_example_gen.sources import files
from trainer.errors import DataError, SettingsError

_FIELDS = {"YYYY": r"\d{4}", "MM": r"\d{2}", "DD": r"\d{2}", "SPAN": r"\d+"}
_PLACEHOLDER = re.compile(r"\{([A-Za-z]+)\}")
# The file that marks a folder as complete; Hadoop and Spark write it.
MARK = "_SUCCESS"


@dataclass(frozen=True)
class Span:
    """One part of a source, by date or by number.

    Attributes:
        path: The folder or file, a local path or a URI.
        name: The date, such as `2026-11-24`, or the digits of `{SPAN}`.
        order: The values of the placeholders; spans are compared by them.
    """

    path: str
    name: str
    order: tuple[int, ...]


@dataclass(frozen=True)
class Newest:
    """The newest complete span.

    Attributes:
        span: The span.
        passed_over: A sentence for each newer span that is not complete yet.
    """

    span: Span
    passed_over: tuple[str, ...] = ()


def is_pattern(source: str) -> bool:
    """Whether a source has placeholders, and so names many spans instead of one path."""
    return bool(_PLACEHOLDER.search(source))


def newest(pattern: str, wanted: str | None = None, settled_minutes: float | None = 10.0) -> Newest:
    """Finds the newest complete span.

    A span is complete if its folder contains a file `_SUCCESS`, or if nothing in it has changed for some time.

    Args:
        pattern: The source with placeholders, a local path or a URI.
        wanted: The name of the span to use instead of the newest one.
        settled_minutes: For how many minutes a span without `_SUCCESS` must not have changed; None if only `_SUCCESS`
            makes a span complete.

    Raises:
        SettingsError: If the pattern has an unknown placeholder, or if no span has the wanted name.
        DataError: If no span is complete.
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
        passed_over.append(f"{span.path} is not complete yet: {problem}.")
    if not passed_over:
        raise DataError(f"{pattern} has no spans: no path matches it.")
    raise DataError(f"{pattern} has no complete span. {' '.join(passed_over)}")


def _spans(pattern: str) -> Iterator[Span]:
    unknown = [name for name in _PLACEHOLDER.findall(pattern) if name not in _FIELDS]
    if unknown:
        raise SettingsError(
            f"data.source {pattern!r} has the unknown placeholder {{{unknown[0]}}}. The placeholders are {{YYYY}}, "
            "{MM}, {DD} and {SPAN}."
        )
    start = _PLACEHOLDER.search(pattern)
    assert start is not None
    base, _, _ = pattern[: start.start()].rpartition("/")
    segments = pattern[len(base) :].strip("/").split("/")
    matches: list[tuple[str, dict[str, str]]] = [(base or ("/" if pattern.startswith("/") else "."), {})]
    for segment in segments:
        if is_pattern(segment):
            expression = _as_expression(segment)
            matches = [
                (files.join(path, name), fields | match.groupdict())
                for path, fields in matches
                for name in files.names(path)
                if (match := expression.fullmatch(name)) and _agrees(fields, match.groupdict())
            ]
        else:
            matches = [(files.join(path, segment), fields) for path, fields in matches]
    for path, fields in matches:
        date = "-".join(fields[field] for field in ("YYYY", "MM", "DD") if field in fields)
        name = ".".join(part for part in (date, fields.get("SPAN")) if part)
        yield Span(path, name, tuple(int(fields.get(field, 0)) for field in _FIELDS))


def _agrees(known: dict[str, str], further: dict[str, str]) -> bool:
    """Whether a placeholder that stands more than once in the pattern has the same value everywhere in a path."""
    return all(known.get(field, value) == value for field, value in further.items())


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
    """Says in a clause why a span is not complete; None if it is complete."""
    if files.exists(files.join(span.path, MARK)):
        return None
    listed = files.listing(span.path).files.values()
    if not listed:
        return "it is empty"
    if settled_minutes is None:
        return f"it has no {MARK}"
    minutes = (time.time() - max(entry.changed for entry in listed)) / 60
    if minutes < settled_minutes:
        return (
            f"it has no {MARK} and changed {max(minutes, 0):.0f} minutes ago, which is less than the "
            f"{settled_minutes:g} minutes of data.settled_minutes"
        )
    return None
