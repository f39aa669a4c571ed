"""What a fault is, and what an attempt at it may use."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.soak.scene import Scene


class Finding(Exception):
    """nnclr did not withstand a fault: the message says in a sentence what was wrong."""


class Impossible(Exception):
    """A fault cannot be injected on this machine: the message says why in a sentence."""


@dataclass
class Attempt:
    """One attempt at a fault.

    Attributes:
        folder: A new folder for everything that the attempt writes.
        random: The generator for all that the attempt leaves to chance.
        tried: How often the fault was injected so far, by a description of how or where.
    """

    folder: Path
    random: random.Random
    tried: Counter[str] = field(default_factory=Counter)

    def note(self, how: str) -> None:
        """Counts an injection of the fault."""
        self.tried[how] += 1


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong around nnclr.

    Attributes:
        name: The name for `--only`.
        seconds: About how long an attempt takes on two busy cores.
        attempt: Injects the fault and returns in some words what came of it. Raises a `Finding` if that is wrong.
    """

    name: str
    seconds: float
    attempt: Callable[["Scene", Attempt], str]


def demand(condition: object, sentence: str) -> None:
    """Raises a `Finding` unless a condition holds."""
    if not condition:
        raise Finding(sentence)
