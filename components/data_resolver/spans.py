"""Resolves a source with placeholders, such as `gs://bucket/images/{YYYY}-{MM}-{DD}`, to its newest complete spans.

Spans and placeholders are TFX's: `{SPAN}` stands for a number, and `{YYYY}`, `{MM}` and `{DD}` for a date. TFX's own
ExampleGens resolve them in a driver, which Kubeflow Pipelines never runs.
"""

import datetime
import itertools
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from components.image_example_gen.sources import files
from trainer.errors import DataError, SettingsError

_FIELDS = {"YYYY": r"\d{4}", "MM": r"\d{2}", "DD": r"\d{2}", "SPAN": r"\d+"}
# TFX's own placeholders may also have a width, as in {SPAN:2}.
_PLACEHOLDER = re.compile(r"\{([A-Za-z]+(?::\d+)?)\}")
# The file that marks a folder as complete; Hadoop and Spark write it.
MARK = "_SUCCESS"
# How many spans a message names.
_NAMED = 5


@dataclass(frozen=True)
class Span:
    """One part of a source, by date or by number.

    Attributes:
        path: The folder or file, a local path or a URI.
        name: The date, such as `2026-11-24`, or the digits of `{SPAN}`.
        order: The values of the placeholders; spans are compared by them.
        exists: Whether the calendar has the date.
    """

    path: str
    name: str
    order: tuple[int, ...]
    exists: bool = True


@dataclass(frozen=True)
class Newest:
    """The newest complete spans.

    Attributes:
        spans: The spans, from the oldest to the newest.
        passed_over: A sentence for each newer span that is not complete yet, or whose date does not exist.
    """

    spans: tuple[Span, ...]
    passed_over: tuple[str, ...] = ()

    @property
    def span(self) -> Span:
        """The newest one."""
        return self.spans[-1]


def is_pattern(source: str) -> bool:
    """Whether a source has placeholders, and so names many spans instead of one path."""
    return bool(_PLACEHOLDER.search(source))


def newest(
    pattern: str, wanted: str | None = None, settled_minutes: float | None = 10.0, count: int | None = 1
) -> Newest:
    """Finds the newest complete spans.

    A span is complete if its folder contains a file `_SUCCESS`, or if nothing in it has changed for some time.

    Args:
        pattern: The source with placeholders, a local path or a URI.
        wanted: The name of the span to use instead of the newest one.
        settled_minutes: For how many minutes a span without `_SUCCESS` must not have changed; None if only `_SUCCESS`
            makes a span complete.
        count: How many spans to find at most; None for all.

    Raises:
        SettingsError: If the pattern has an unknown placeholder, or if no span has the wanted name.
        DataError: If no span is complete, or two spans have the same number.
    """
    matched = list(_spans(pattern))
    passed_over = [
        f"{span.path} is left out: the date {span.name} does not exist." for span in matched if not span.exists
    ]
    spans = sorted((span for span in matched if span.exists), key=lambda span: span.order, reverse=True)
    for span, other in itertools.pairwise(spans):
        if span.order == other.order:
            raise DataError(f"{other.path} and {span.path} are the same span, by their numbers: rename one of them.")
    if wanted:
        known = ", ".join(span.name for span in spans[:10]) or "none"
        spans = [span for span in spans if span.name == wanted]
        if not spans:
            raise SettingsError(f"{pattern} has no span {wanted} (data.span); there are: {known}.")
    found: list[Span] = []
    for span in spans:
        problem = _incomplete(span, settled_minutes)
        if problem:
            passed_over.append(f"{span.path} is not complete yet: {problem}.")
            continue
        found.append(span)
        if len(found) == count:
            break
    if found:
        return Newest(tuple(reversed(found)), tuple(passed_over))
    if not passed_over:
        raise DataError(f"{pattern} has no spans: no path matches it.")
    more = f" So are {len(passed_over) - _NAMED} more." if len(passed_over) > _NAMED else ""
    raise DataError(f"{pattern} has no complete span. {' '.join(passed_over[:_NAMED])}{more}")


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
        order = tuple(int(fields.get(field, 0)) for field in _FIELDS)
        yield Span(path, name, order, exists=_is_in_calendar(fields))


def _is_in_calendar(fields: Mapping[str, str]) -> bool:
    """Returns whether there is such a date; a year or a month without a day stands for its first one."""
    try:
        # The year 2000 has all days of a pattern without a year.
        datetime.date(int(fields.get("YYYY", 2000)), int(fields.get("MM", 1)), int(fields.get("DD", 1)))
    except ValueError:
        return False
    return True


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
