"""The interface of a source of images."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from components.image_example_gen.config import IngestSettings
from components.image_example_gen.sources.files import Entry, Listing

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, order=True)
class LeftOut:
    """A file that was found at a source and is not ingested, or a name in `data.exclude` that was not found.

    Attributes:
        reason: Why, in a few words that many files share.
        name: The file's path, relative to the source.
    """

    reason: str
    name: str


@dataclass(frozen=True)
class Picture:
    """One image as its source gives it.

    Attributes:
        split: The split that the image belongs to.
        index: The image's position within the split.
        id: A name for the image that is unique within the source.
        content: Pixels, uint8 [height, width, 3], or the bytes of a picture file, still encoded.
        label: The class, counted from 0, or `splits.NO_LABEL`.
        folds: The folds that the image belongs to, for a source with predefined folds.
        error: Why the image could not be read; empty if it could.
    """

    split: str
    index: int
    id: str
    content: "np.ndarray | bytes"
    label: int
    folds: tuple[int, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Work:
    """A part of a source that one Beam worker reads from start to end.

    Attributes:
        split: The split that the part belongs to; empty if the part spans several splits.
        first: The index of the part's first image within the split.
        count: The number of images in the part.
        payload: Whatever the source needs to locate the images.
    """

    split: str
    first: int
    count: int
    payload: Any = None


@dataclass(frozen=True)
class Labels:
    """The labels of one split.

    Attributes:
        classes: The class of each image, counted from 0: int64 [N].
        folds: The folds that each image belongs to; empty if the split has no folds.
    """

    classes: "np.ndarray"
    folds: list[tuple[int, ...]] = field(default_factory=list)

    def of(self, index: int) -> tuple[int, tuple[int, ...]]:
        """Returns the class and the folds of the image with this index."""
        return int(self.classes[index]), self.folds[index] if self.folds else ()


class Source(ABC):
    """Images in up to three splits, with everything checked beforehand that can be checked without reading pixels.

    Instances travel to Beam workers by pickle: they hold paths and labels, never pixels or open files.

    Attributes:
        kind: The kind of source. It is part of the data fingerprint.
        path: Where the source lies, locally or in a bucket.
        class_names: The names of the classes, in the order of the labels.
        counts: The number of images in each split.
        left_out: The files that were found and are not ingested, for a source that consists of single files.
    """

    kind: str
    path: str
    class_names: tuple[str, ...]
    counts: dict[str, int]
    left_out: Sequence[LeftOut] = ()

    @abstractmethod
    def files(self) -> dict[str, Entry]:
        """Returns all files whose contents decide what is ingested, as they were listed when the source was opened.

        Returns:
            How each file was listed by its path or URI, which begins with `path`.
        """

    def shards(self, split: str, images: int) -> int:
        """Returns the number of shards of a split, each with at most `images` images."""
        return -(-self.counts[split] // images)

    @abstractmethod
    def work(self, images: int) -> list[Work]:
        """Divides the source into parts to read in parallel, of `images` images each where that is possible."""

    @abstractmethod
    def read(self, work: Work) -> Iterator[Picture]:
        """Yields the pictures of one part; within a split, they come in the order of their index, without gaps."""


class StoredSource(Source):
    """A source that is opened by its path.

    To add a kind of source, derive from this class in a package of your own and declare it there:

        [project.entry-points."nnclr.sources"]
        my-source = "my_package.my_module:MySource"

    Once the package is installed, `nnclr` opens the paths that the class recognises with it.

    Args:
        path: Local path or URI of the source.
        listing: The files at the path, so that they need not be listed again.
        settings: How images become examples.

    Attributes:
        description: The kind of source as a noun phrase, for the help and for messages.
        takes_exclude: Whether the source leaves out what `data.exclude` lists.
    """

    description: str
    takes_exclude: bool = False

    @abstractmethod
    def __init__(self, path: str, listing: Listing, settings: IngestSettings): ...

    @classmethod
    @abstractmethod
    def recognises(cls, path: str, names: Set[str]) -> bool:
        """Whether a path looks like this kind of source.

        Args:
            path: Local path or URI, without a slash at its end.
            names: The paths, relative to `path`, of all files below it; empty if `path` is itself a file.
        """

    def require_unlabelled(self) -> None:
        """Refuses a source without images to pretrain on.

        Kinds of sources that always have all three splits need not override this.

        Raises:
            DataError: If the split `unlabelled` is empty.
        """

    def require_labelled(self) -> None:
        """Refuses a source without images to evaluate with.

        Kinds of sources that always have all three splits need not override this.

        Raises:
            DataError: If the split `train` or `test` is empty.
        """


def ranges(split: str, count: int, images: int) -> list[Work]:
    """Divides the `count` images of a split into parts of `images` images."""
    return [Work(split, first, min(images, count - first)) for first in range(0, count, images)]
