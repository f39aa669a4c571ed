"""A folder of one's own pictures: `unlabelled/**`, and optionally `train/CLASS/*` and `test/CLASS/*`."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from components.image_example_gen.sources import files
from components.image_example_gen.sources.base import Picture, Source, Work
from trainer import examples
from trainer.errors import DataError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


class ImageFolder(Source):
    """Opens the folder at `path`. Files with other endings than `ENDINGS` are not looked at.

    Raises:
        DataError: it has only one of the labelled splits, a single class, or classes that occur in `test` alone.
    """

    kind = "image folder"

    def __init__(self, path: str):
        self.path = path.rstrip("/")
        everything = files.listing(self.path, "**")
        pictures: dict[str, list[str]] = {split: [] for split in examples.SPLITS}
        for file in everything:
            relative = PurePosixPath(file[len(self.path) + 1 :])
            split = relative.parts[0]
            if relative.suffix.lower() not in ENDINGS or split not in pictures:
                continue
            if split != examples.UNLABELLED and len(relative.parts) != 3:
                raise DataError(f"{file} lies outside of a class: labelled pictures belong in {split}/CLASS/.")
            pictures[split].append(str(relative))
        self._pictures = pictures
        self.counts = {split: len(paths) for split, paths in pictures.items()}
        self._require_both_labelled_splits()
        self.class_names = tuple(sorted({_class_of(path) for path in pictures[examples.TRAIN]}))
        if len(self.class_names) == 1:
            raise DataError(f"{self.path}/train has the class {self.class_names[0]} alone: a probe needs two or more.")
        unknown = sorted({_class_of(path) for path in pictures[examples.TEST]} - set(self.class_names))
        if unknown:
            raise DataError(f"{self.path}/test has classes that {self.path}/train has not: {', '.join(unknown)}.")

    def _require_both_labelled_splits(self) -> None:
        kinds = ", ".join(ENDINGS)
        train, test = self.counts[examples.TRAIN], self.counts[examples.TEST]
        if bool(train) != bool(test):
            empty, full = (examples.TEST, examples.TRAIN) if train else (examples.TRAIN, examples.TEST)
            raise DataError(
                f"{self.path} has labelled pictures in {full}/ but none ({kinds}) in {empty}/: "
                "the evaluation needs both, and pretraining alone needs neither."
            )

    def files(self) -> list[str]:
        """All pictures."""
        return [files.join(self.path, name) for names in self._pictures.values() for name in names]

    def work(self, images: int) -> list[Work]:
        """Runs of file names."""
        return [
            Work(split, first, len(names[first : first + images]), names[first : first + images])
            for split, names in self._pictures.items()
            for first in range(0, len(names), images)
        ]

    def read(self, work: Work) -> Iterator[Picture]:
        """The bytes of each file; one that cannot be read becomes a picture with an error."""
        for index, name in enumerate(work.payload, work.first):
            labelled = work.split != examples.UNLABELLED
            label = self.class_names.index(_class_of(name)) if labelled else examples.NO_LABEL
            content, error = b"", ""
            try:
                with files.opened(files.join(self.path, name)) as file:
                    content = file.read()
            except (DataError, OSError) as problem:
                error = str(problem)
            yield Picture(work.split, index, name, content, label, error=error)


def _class_of(name: str) -> str:
    return name.split("/")[1]
