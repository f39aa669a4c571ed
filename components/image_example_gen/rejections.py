"""The pictures that cannot be decoded, and the other files that are left out: their list, and how many are allowed."""

import collections
import json
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from components.image_example_gen.sources.base import LeftOut
from trainer.errors import DataError

_SHOWN_REJECTS, _LOGGED_REJECTS = 5, 1000

logger = logging.getLogger("nnclr")


class RejectedPictures(DataError):
    """More pictures cannot be decoded than the settings allow.

    Attributes:
        listing: The lines of `rejected.jsonl`. The artifact's folder is deleted when ingest fails.
    """

    def __init__(self, message: str, listing: str):
        super().__init__(message)
        self.listing = listing


class Rejected(NamedTuple):
    """An image that could not be decoded, or that is to be left out, and why."""

    split: str
    id: str
    reason: str


def judged(rejected: Sequence[Rejected], left_out: Sequence[LeftOut], most: int) -> str:
    """Logs what is not used of a source, and returns the lines of `rejected.jsonl`.

    Args:
        rejected: The pictures that cannot be decoded.
        left_out: The other files that are not used.
        most: The number of pictures that may be undecodable.

    Raises:
        RejectedPictures: If more pictures are undecodable.
    """
    for picture in rejected[:_LOGGED_REJECTS]:
        logger.warning("Rejected: %s (%s).", picture.id, picture.reason)
    if left_out:
        logger.info("Left out: %s.", "; ".join(f"{count} {reason}" for reason, count in counted(left_out).items()))
    listing = lines([*rejected, *(Rejected("", file.name, file.reason) for file in left_out)])
    if len(rejected) > most:
        raise RejectedPictures(_too_many(rejected, most), listing)
    return listing


def lines(files: Iterable[Rejected]) -> str:
    """Returns a list of files in the format of `rejected.jsonl`, which `data.exclude` takes."""
    return "".join(f"{json.dumps(file._asdict())}\n" for file in files)


def counted(left_out: Sequence[LeftOut]) -> dict[str, int]:
    """Returns the number of files by the reason for which they are left out, sorted."""
    return dict(sorted(collections.Counter(file.reason for file in left_out).items()))


def _too_many(pictures: Sequence[Rejected], allowed: int) -> str:
    shown = "; ".join(f"{picture.id} ({picture.reason})" for picture in pictures[:_SHOWN_REJECTS])
    more = f"; and {len(pictures) - _SHOWN_REJECTS} more" if len(pictures) > _SHOWN_REJECTS else ""
    return (
        f"{len(pictures)} pictures cannot be decoded, {allowed} are allowed: {shown}{more}. "
        f"Repair or remove them, or go on without them: --set data.max_rejected={len(pictures)}."
    )
