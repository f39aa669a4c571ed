"""Every move of an alias: who, when, from where, to where, why. MLflow itself keeps none.

A move is recorded before it is made, and marked as done afterwards. So an interrupted one can be recognised, and a
retry by the same author completes its record instead of adding another. A move that was made with another tool leaves
no record: it is recorded as found when nnclr makes the next one.
"""

import json
import secrets
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

_PREFIX = "alias_move."

PUSH, PROMOTE, ROLLBACK, SETTLE, FOUND = "push", "promote", "rollback", "settle", "found"


@dataclass(frozen=True)
class Move:
    """An alias goes from one version to another.

    Attributes:
        alias: that moves.
        previous: version that it pointed to; None if to none.
        version: that it points to from now on.
        kind: what moved it: `push`, `promote`, `rollback`, `settle` (two pushes raced, and the first one won), or
            `found` (it had been moved by other means than nnclr).
        by: a pipeline run, or a user and machine.
        reason: a sentence.
        at: time, ISO 8601 in UTC.
        key: name of its record.
        done: whether it was marked as done.
        completed: whether the alias really moved.
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
        """The same, as a record of its own, now."""
        now = datetime.now(UTC)
        return replace(self, at=now.isoformat(), key=f"{_PREFIX}{now:%Y%m%dT%H%M%S.%f}.{secrets.token_hex(2)}")

    def as_tag(self) -> tuple[str, str]:
        """Key and value of the registered model's tag that records it."""
        record = asdict(self)
        return record.pop("key"), json.dumps({name: record[name] for name in record if name != "completed"})


def from_tags(tags: dict[str, str], aliases: dict[str, int]) -> list[Move]:
    """The moves in a registered model's tags, oldest first.

    Args:
        tags: of the registered model.
        aliases: where each points now.
    """
    moves = [Move(**json.loads(tags[key]), key=key) for key in sorted(tags) if key.startswith(_PREFIX)]
    # A move that was never marked as done counts as made if the next one started from its version.
    following: dict[str, int | None] = dict(aliases)
    known = []
    for move in reversed(moves):
        known.append(replace(move, completed=move.done or following.get(move.alias) == move.version))
        following[move.alias] = move.previous
    return known[::-1]


def rollback_target(moves: Iterable[Move], alias: str, current: int, existing: Collection[int]) -> int | None:
    """The last version other than `current` that an alias pointed to and that still exists.

    Versions that a rollback left are not gone back to, so that rollbacks, done again and again, come to an end.

    Args:
        moves: all moves, oldest first.
        alias: whose moves count.
        current: version that it points to now.
        existing: numbers of the versions that there are.
    """
    way: list[int] = []
    for move in moves:
        if move.alias != alias or not move.completed:
            continue
        if move.kind == ROLLBACK and move.version in way:
            while way[-1] != move.version:
                way.pop()
        elif move.kind == SETTLE and way:
            # The loser of a race had the alias for a moment by mistake.
            way[-1] = move.version
        else:
            way.append(move.version)
    if not way or way[-1] != current:
        way.append(current)
    return next((version for version in reversed(way) if version != current and version in existing), None)
