"""Every move of an alias: who, when, from where, to where, why. MLflow itself keeps none.

A move is written down before it is made. So one that was broken off is known as such, and is completed, not repeated,
when whoever made it tries again.
"""

import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

_PREFIX = "alias_move."

PUSH, PROMOTE, ROLLBACK, SETTLE = "push", "promote", "rollback", "settle"


@dataclass(frozen=True)
class Move:
    """An alias goes from one version to another.

    Attributes:
        alias: that moves.
        previous: version that it pointed to; None if to none.
        version: that it points to from now on.
        kind: what moved it: `push`, `promote`, `rollback`, or `settle` (two pushes raced, and the better one won).
        by: a pipeline run, or a user and machine.
        reason: in a sentence.
        at: time, ISO 8601 in UTC.
        key: of its record.
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
        aliases: where each points now; this tells whether the last move was completed.
    """
    moves = [Move(**json.loads(tags[key]), key=key) for key in sorted(tags) if key.startswith(_PREFIX)]
    following: dict[str, int | None] = dict(aliases)
    known = []
    for move in reversed(moves):
        known.append(replace(move, completed=following.get(move.alias) == move.version))
        following[move.alias] = move.previous
    return known[::-1]


def before(moves: Iterable[Move], alias: str, version: int) -> int | None:
    """The version that an alias pointed to before it first came to `version`; what a rollback goes back to.

    Rollbacks are no way forward: what they left is not gone back to.
    """
    reached = [move for move in moves if move.alias == alias and move.version == version and move.kind != ROLLBACK]
    return reached[-1].previous if reached else None
