"""Finds images that occur in two splits, or that may do so because they look alike."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, repeat, zip_longest
from typing import NamedTuple, TypeVar

import numpy as np

from components.image_example_gen import duplicates
from components.linear_probe_evaluator.artifact import Duplicates
from components.linear_probe_evaluator.embedding import Rows
from trainer import splits

_PAIRS_OF_SPLITS = (
    (splits.TEST, splits.TRAIN),
    (splits.TEST, splits.UNLABELLED),
    (splits.TRAIN, splits.UNLABELLED),
)
_MOST_EXAMPLES = 8

_T = TypeVar("_T")


class Place(NamedTuple):
    """Where an image lies.

    Attributes:
        split: Its split.
        row: Its row number within the split.
        id: Its id.
        label: Its class; `splits.NO_LABEL` if it has none.
    """

    split: str
    row: int
    id: str
    label: int


class Copy(NamedTuple):
    """An image of one split, and an image of another one that may be the same picture.

    Attributes:
        image: The image.
        other: The image of the other split.
        identical: Whether the pixels of both are equal; otherwise they look alike.
    """

    image: Place
    other: Place
    identical: bool


@dataclass(frozen=True)
class Copies:
    """What occurs in two splits.

    Attributes:
        counts: The numbers of images by the names of the two splits, such as `test in train`.
        sentences: A sentence for each two splits with such images.
        examples: A few of them to look at.
    """

    counts: dict[str, Duplicates]
    sentences: tuple[str, ...]
    examples: tuple[Copy, ...]


def find(rows: dict[str, Rows]) -> Copies:
    """Compares the splits by the hashes of their images.

    Args:
        rows: The rows of each split.
    """
    counts, sentences, examples = {}, [], []
    for split, other in _PAIRS_OF_SPLITS:
        ours, theirs = rows[split], rows[other]
        found, pairs = _compare(ours.hashes, theirs.hashes)
        counts[f"{split} in {other}"] = found
        if found.exact or found.look:
            sentences.append(_sentence(split, other, found))
        examples.append(
            [Copy(_place(split, ours, row), _place(other, theirs, match), same) for row, match, same in pairs]
        )
    return Copies(counts, tuple(sentences), tuple(_in_turn(examples))[:_MOST_EXAMPLES])


def _compare(
    hashes: dict[str, np.ndarray], others: dict[str, np.ndarray]
) -> tuple[Duplicates, list[tuple[int, int, bool]]]:
    """Returns the numbers of images, and a few pairs of row numbers with whether their images are identical."""
    exact = hashes[duplicates.EXACT]
    identical = duplicates.identical(exact, others[duplicates.EXACT])
    # Of identical images within a split one is compared, so that a picture that was copied often is no common look.
    ours, theirs = (np.unique(each[duplicates.EXACT], return_index=True)[1] for each in (hashes, others))
    alike, common = duplicates.look_alike(hashes[duplicates.LOOK][ours], others[duplicates.LOOK][theirs])
    rest = np.ones(len(exact), bool)
    rest[identical.rows] = False
    counts = Duplicates(
        images=len(exact),
        exact=len(identical.rows),
        look=int((np.isin(exact, exact[ours[alike.rows]]) & rest).sum()),
        common=int((np.isin(exact, exact[ours[common]]) & rest).sum()),
    )
    closest = np.argsort(alike.bits, kind="stable")
    few = closest[rest[ours[alike.rows[closest]]]][:_MOST_EXAMPLES]
    pairs = zip(ours[alike.rows[few]].tolist(), theirs[alike.others[few]].tolist(), repeat(False))
    same = zip(identical.rows[:_MOST_EXAMPLES].tolist(), identical.others[:_MOST_EXAMPLES].tolist(), repeat(True))
    return counts, list(islice(_in_turn([pairs, same]), _MOST_EXAMPLES))


def _place(split: str, rows: Rows, row: int) -> Place:
    return Place(split, row, str(rows.ids[row]), int(rows.labels[row]))


def _sentence(split: str, other: str, found: Duplicates) -> str:
    occur = "may also occur" if found.look else "also occur"
    consequence = (
        f"the accuracy {'may be' if found.look else 'is'} overestimated"
        if other == splits.TRAIN
        else f"the encoder {'may have been' if found.look else 'was'} pretrained on these images, although without "
        "their labels"
    )
    return (
        f"{found.exact + found.look:,} of the {found.images:,} images of {split} {occur} in {other} "
        f"({found.exact:,} identical, {found.look:,} visually alike): {consequence}."
    )


def _in_turn(lists: Iterable[Iterable[_T]]) -> Iterator[_T]:
    """Yields the first of each list, then the second of each, and so on."""
    return (one for turn in zip_longest(*lists) for one in turn if one)
