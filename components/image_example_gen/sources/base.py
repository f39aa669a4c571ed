"""What every source offers to ingest."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Picture:
    """One image as its source gives it: decoded (uint8 [height, width, 3]) or still encoded (bytes of a picture file).

    `error` stands in for an image that could not be read.
    """

    split: str
    index: int
    id: str
    content: np.ndarray | bytes
    label: int
    folds: tuple[int, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Work:
    """A piece of the source that one Beam worker reads from start to end.

    Attributes:
        split: the split that it belongs to; empty where it spans several.
        first: index of its first image within the split.
        count: images in it.
        payload: whatever the source needs to find them.
    """

    split: str
    first: int
    count: int
    payload: Any = None


@dataclass(frozen=True)
class Labels:
    """Of one split: the class (0-based) of each image, and in which of STL-10's folds it is."""

    classes: np.ndarray
    folds: list[tuple[int, ...]] = field(default_factory=list)

    def of(self, index: int) -> tuple[int, tuple[int, ...]]:
        """Class and folds of the image with this index."""
        return int(self.classes[index]), self.folds[index] if self.folds else ()


class Source(ABC):
    """Images in up to three splits. All that can be checked without reading the pixels is, before any are given.

    Instances travel to Beam workers by pickle: they hold paths and labels, never pixels or open files.
    """

    kind: str
    path: str
    class_names: tuple[str, ...]
    counts: dict[str, int]

    @abstractmethod
    def files(self) -> list[str]:
        """The files whose contents decide what is ingested, for the fingerprint."""

    @abstractmethod
    def work(self, images: int) -> list[Work]:
        """Parts to read in parallel; wherever the source allows it, `images` images each."""

    @abstractmethod
    def read(self, work: Work) -> Iterator[Picture]:
        """The pictures of one part; those of one split come in the order of their index, none left out."""


def ranges(split: str, count: int, images: int) -> list[Work]:
    """Parts `count` images of a split into runs of `images`."""
    return [Work(split, first, min(images, count - first)) for first in range(0, count, images)]
