"""The recorded moves of aliases: who moved which alias, when, from which version to which, and why.

MLflow keeps no such history, so nnclr records each move in a tag of the registered model. The record is written before
the alias moves and marked as done afterwards. An interrupted move can therefore be recognised, and a retry by the same
author completes its record instead of adding another. A move by another tool leaves no record; nnclr adds one before
its own next move of the alias.
"""

import json
import secrets
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

_TAG_PREFIX = "alias_move."

PUSH, PROMOTE, ROLLBACK, SETTLE, EXTERNAL = "push", "promote", "rollback", "settle", "external"
# Kinds under which earlier releases of nnclr stored moves.
_FORMER_KINDS = {"found": EXTERNAL}


@dataclass(frozen=True)
class Move:
    """An alias moves from one version to another.

    Attributes:
        alias: The alias.
        previous: The version that the alias pointed to before; None if it did not exist.
        version: The version that the alias points to afterwards.
        kind: The cause: `push`, `promote`, `rollback`, `settle` (two pushes raced, and the first one won), or
            `external` (a tool other than nnclr moved the alias).
        by: The author: a pipeline run, or `USER@MACHINE`.
        reason: The reason, a sentence.
        at: The time, ISO 8601 in UTC.
        key: The key of the tag that records the move.
        done: Whether the record is marked as done.
        completed: Whether the alias really moved.
    """

    alias: str
    previous: int | None
    version: int
    kind: str
    by: str
    reason: str
    at: str = ""
    key: str = ""
    done: bool = False
    completed: bool = True

    def stamped(self) -> "Move":
        """Returns the move with the present time and the key of a new record."""
        now = datetime.now(UTC)
        return replace(self, at=now.isoformat(), key=f"{_TAG_PREFIX}{now:%Y%m%dT%H%M%S.%f}.{secrets.token_hex(2)}")

    def as_tag(self) -> tuple[str, str]:
        """Returns the key and the value of the registered model's tag that records the move."""
        record = asdict(self)
        return record.pop("key"), json.dumps({name: record[name] for name in record if name != "completed"})


def from_tags(tags: dict[str, str], aliases: dict[str, int]) -> list[Move]:
    """Reads the moves from a registered model's tags, oldest first.

    Args:
        tags: The registered model's tags.
        aliases: The version that each alias points to now.
    """
    moves = [_from_tag(key, tags[key]) for key in sorted(tags) if key.startswith(_TAG_PREFIX)]
    # A move that was never marked as done counts as completed if the next move of the alias started from its version.
    started_from: dict[str, int | None] = dict(aliases)
    newest_first = []
    for move in reversed(moves):
        newest_first.append(replace(move, completed=move.done or started_from.get(move.alias) == move.version))
        started_from[move.alias] = move.previous
    return newest_first[::-1]


def completed_moves(moves: Iterable[Move], alias: str) -> list[Move]:
    """Returns the completed moves of one alias, in the order given."""
    return [move for move in moves if move.alias == alias and move.completed]


def rollback_target(moves: Iterable[Move], alias: str, current: int, existing: Collection[int]) -> int | None:
    """Returns the last version other than `current` that an alias pointed to and that still exists.

    A version that a rollback left is never returned again, so that repeated rollbacks come to an end.

    Args:
        moves: The moves of all aliases, oldest first.
        alias: The alias to roll back.
        current: The version that the alias points to now.
        existing: The numbers of the existing versions.

    Returns:
        The version's number; None if there is no version to roll back to.
    """
    trail = releases(moves, alias, current)
    return next((version for version in reversed(trail) if version != current and version in existing), None)


def releases(moves: Iterable[Move], alias: str, current: int) -> list[int]:
    """Returns the numbers of the versions that an alias pointed to, oldest first, without those that a rollback left.

    Args:
        moves: The moves of all aliases, oldest first.
        alias: The alias.
        current: The version that the alias points to now, which is the last of the result.
    """
    trail: list[int] = []
    for move in completed_moves(moves, alias):
        if move.kind == ROLLBACK and move.version in trail:
            while trail[-1] != move.version:
                trail.pop()
        elif move.kind == SETTLE and trail:
            # The loser of the race had the alias for a moment only.
            trail[-1] = move.version
        else:
            trail.append(move.version)
    if not trail or trail[-1] != current:
        trail.append(current)
    return trail


def taken_away(moves: Iterable[Move], alias: str, version: int, current: int | None) -> bool:
    """Returns whether an alias left a version by other means than a push of another version: a person took it away.

    Args:
        moves: The moves of all aliases, oldest first.
        alias: The alias.
        version: The version's number.
        current: The version that the alias points to now; None if the alias does not exist.
    """
    made = completed_moves(moves, alias)
    last = max((index for index, move in enumerate(made) if move.version == version), default=None)
    if last is None:
        return False
    if last == len(made) - 1:
        return current != version
    left_by = made[last + 1]
    return (left_by.kind, left_by.previous) != (PUSH, version)


def _from_tag(key: str, value: str) -> Move:
    record: dict[str, Any] = json.loads(value)
    kind = _FORMER_KINDS.get(record["kind"], record["kind"])
    return Move(**record | {"kind": kind, "key": key})
