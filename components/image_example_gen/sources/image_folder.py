"""A folder of picture files: `unlabelled/**`, and optionally `train/CLASS/*` and `test/CLASS/*`."""

from collections.abc import Iterator, Set
from pathlib import PurePosixPath

from components.image_example_gen.sources import files
from components.image_example_gen.sources.base import PICTURE_FORMATS, Picture, StoredSource, Work
from components.image_example_gen.sources.files import Entry, Listing
from trainer import splits
from trainer.errors import DataError

_ENDINGS = tuple(ending for endings in PICTURE_FORMATS.values() for ending in endings)


class ImageFolder(StoredSource):
    """Opens the folder at `path`. Files that do not end like a picture file are ignored.

    Raises:
        DataError: If only one of the labelled splits has pictures, if there is a single class, or if `test` has classes
            that `train` lacks.
    """

    kind = "image folder"
    description = (
        f"a folder of pictures ({', '.join(_ENDINGS)}) in {splits.UNLABELLED}/ and, for the evaluation, in "
        f"{splits.TRAIN}/CLASS/ and {splits.TEST}/CLASS/"
    )

    def __init__(self, path: str, listing: Listing):
        self.path = path.rstrip("/")
        unreadable = [name for name, problem in listing.problems.items() if problem == files.NO_PERMISSION]
        if unreadable:
            raise DataError(
                f"{files.join(self.path, unreadable[0])} cannot be listed ({files.NO_PERMISSION}), one of "
                f"{len(unreadable)}: permit it, or move the folder elsewhere."
            )
        self._listed = listing.files
        pictures: dict[str, list[str]] = {split: [] for split in splits.SPLITS}
        for name in listing.files:
            relative = PurePosixPath(name)
            split = relative.parts[0]
            if relative.suffix.lower() not in _ENDINGS or split not in pictures:
                continue
            if split != splits.UNLABELLED and len(relative.parts) != 3:
                raise DataError(
                    f"{files.join(self.path, name)} is not in the folder of a class: labelled pictures belong in "
                    f"{split}/CLASS/."
                )
            pictures[split].append(name)
        self._pictures = pictures
        self.counts = {split: len(names) for split, names in pictures.items()}
        self._require_both_labelled_splits_or_none()
        self.class_names = tuple(sorted({_class_of(name) for name in pictures[splits.TRAIN]}))
        if len(self.class_names) == 1:
            raise DataError(
                f"{self.path}/{splits.TRAIN} has only the class {self.class_names[0]}: the evaluation needs two."
            )
        unknown = sorted({_class_of(name) for name in pictures[splits.TEST]} - set(self.class_names))
        if unknown:
            raise DataError(
                f"{self.path}/{splits.TEST} has classes that {self.path}/{splits.TRAIN} lacks: {', '.join(unknown)}."
            )

    @classmethod
    def recognises(cls, path: str, names: Set[str]) -> bool:
        return any(name.partition("/")[0] in splits.SPLITS for name in names)

    def require_unlabelled(self) -> None:
        if not self.counts[splits.UNLABELLED]:
            raise DataError(
                f"{self.path}/{splits.UNLABELLED} has no pictures ({', '.join(_ENDINGS)}): pretraining needs some."
            )

    def require_labelled(self) -> None:
        # There are pictures in both labelled splits or in neither.
        if not self.counts[splits.TEST]:
            raise DataError(
                f"{self.path} has no labelled pictures: evaluator.data needs some in {splits.TRAIN}/CLASS/ and "
                f"{splits.TEST}/CLASS/."
            )

    def _require_both_labelled_splits_or_none(self) -> None:
        train, test = self.counts[splits.TRAIN], self.counts[splits.TEST]
        if bool(train) != bool(test):
            empty, full = (splits.TEST, splits.TRAIN) if train else (splits.TRAIN, splits.TEST)
            raise DataError(
                f"{self.path} has labelled pictures in {full}/ but none ({', '.join(_ENDINGS)}) in {empty}/: "
                "the evaluation needs both, and pretraining alone needs neither."
            )

    def files(self) -> dict[str, Entry]:
        """Returns all pictures."""
        names = (name for names in self._pictures.values() for name in names)
        return {files.join(self.path, name): self._listed[name] for name in names}

    def work(self, images: int) -> list[Work]:
        """Divides the sorted file names of each split."""
        return [
            Work(split, first, len(part), [(name, self._listed[name]) for name in part])
            for split, names in self._pictures.items()
            for first in range(0, len(names), images)
            for part in [names[first : first + images]]
        ]

    def read(self, work: Work) -> Iterator[Picture]:
        """Yields the bytes of each file; a file without read permission becomes a picture with an error."""
        listed = [(files.join(self.path, name), entry) for name, entry in work.payload]
        names = (name for name, _ in work.payload)
        for index, (name, (_, content)) in enumerate(zip(names, files.read_ahead(listed), strict=True), work.first):
            labelled = work.split != splits.UNLABELLED
            label = self.class_names.index(_class_of(name)) if labelled else splits.NO_LABEL
            if isinstance(content, PermissionError):
                yield Picture(work.split, index, name, b"", label, error=files.NO_PERMISSION)
            else:
                yield Picture(work.split, index, name, content, label)


def _class_of(name: str) -> str:
    return name.split("/")[1]
