"""Lengths of time: the form of `trainer.time_limit`, such as `2h`, and how they are told to people."""

import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_NUMBER = r"\d+(?:\.\d+)?"
_FORM = re.compile(rf"(?:({_NUMBER})\s*h)?\s*(?:({_NUMBER})\s*m(?:in)?)?\s*(?:({_NUMBER})\s*s)?")
_SECONDS_PER_UNIT = (3600, 60, 1)


def in_seconds(limit: str) -> float:
    """Converts a time limit into seconds."""
    match = _FORM.fullmatch(limit)
    assert match is not None
    return sum(float(number or 0) * seconds for number, seconds in zip(match.groups(), _SECONDS_PER_UNIT, strict=True))


def _checked(value: object) -> str:
    limit = str(value).strip()
    if not _FORM.fullmatch(limit) or not in_seconds(limit):
        raise ValueError("Write a time above 0 with its units, like `2h`, `90m` or `1h 30m`")
    return limit


#: Hours, minutes and seconds: `2h`, `90m`, `1h 30m`, `45s`.
TimeLimit = Annotated[
    str,
    BeforeValidator(_checked),
    WithJsonSchema({"type": "string", "pattern": f"^{_FORM.pattern}$", "examples": ["2h", "90m", "1h 30m"]}),
]


def spoken(seconds: float) -> str:
    """Returns a length of time for people: `45 s`, `12 min` or `2 h 5 min`."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
