"""A folder of picture files, whose labels are the names of folders or stand in `labels.csv`."""

from collections.abc import Collection, Iterator, Set

from components.image_example_gen.config import IngestSettings
from components.image_example_gen.sources import dividing, exclusion, files, folder_layout, labels_file
from components.image_example_gen.sources.base import LeftOut, Picture, StoredSource, Work
from components.image_example_gen.sources.files import Entry, Listing
from components.image_example_gen.sources.folder_layout import Item, printable
from components.image_example_gen.sources.labels_file import LABELS_FILE
from components.image_example_gen.sources.picture_formats import ENDINGS
from trainer import splits
from trainer.errors import DataError, SettingsError


class ImageFolder(StoredSource):
    """Opens the folder at `path`. `folder_layout` says which of its files are pictures.

    Raises:
        DataError: If only one of the labelled splits has pictures, if there is a single class, if `test` has classes
            that `train` lacks, or if the folders or labels contradict each other.
        SettingsError: If labelled pictures have no split, and the settings do not say how to divide them.
    """

    kind = "image folder"
    takes_exclude = True
    description = (
        f"a folder of pictures ({', '.join(ENDINGS)}): in {splits.UNLABELLED}/ and, for the evaluation, in "
        f"{splits.TRAIN}/CLASS/ and {splits.TEST}/CLASS/; or in any folders, with labels in {LABELS_FILE} or without"
    )

    def __init__(self, path: str, listing: Listing, settings: IngestSettings):
        self.path = path.rstrip("/")
        unreadable = [name for name, problem in listing.problems.items() if problem == files.NO_PERMISSION]
        if unreadable:
            raise DataError(
                f"{files.join(self.path, unreadable[0])} cannot be listed ({files.NO_PERMISSION}), one of "
                f"{len(unreadable)}: permit it, or move the folder elsewhere."
            )
        self._listed = listing.files
        names = list(listing.files)
        labels = None
        if LABELS_FILE in names:
            where = files.join(self.path, LABELS_FILE)
            labels = labels_file.parse(where, files.read(where))
        listed = exclusion.read(settings.exclude)
        # `rejected.jsonl` of a run on several spans names the span's folder first.
        span = f"{self.path.rpartition('/')[2]}/"
        excluded = {name for name in names if {printable(name), span + printable(name)} & listed}
        kept = [name for name in names if name not in excluded]
        if labels is not None:
            labels = {name: row for name, row in labels.items() if name not in listed and span + name not in listed}
        layout = folder_layout.divide(self.path, kept, labels, classes_are_folders=settings.split is not None)
        excluded_files = [LeftOut(exclusion.EXCLUDED, printable(name)) for name in excluded]
        found = {name for file in excluded_files for name in (file.name, span + file.name)}
        missing = (LeftOut(exclusion.MISSING, name) for name in listed - found)
        problems = (LeftOut(reason, printable(name)) for name, reason in listing.problems.items())
        self.left_out = sorted([*layout.left_out, *excluded_files, *missing, *problems])
        self._labels_file = LABELS_FILE if labels is not None else None
        self._pictures = self._by_split(layout.pictures, settings)
        self.counts = {split: len(items) for split, items in self._pictures.items()}
        self._require_both_labelled_splits_or_none(names)
        self.class_names = self._classes(splits.TRAIN)
        if len(self.class_names) == 1:
            raise DataError(
                f"{self.path}/{splits.TRAIN} has only the class {self.class_names[0]}: the evaluation needs two."
            )
        unknown = set(self._classes(splits.TEST)) - set(self.class_names)
        if unknown:
            raise DataError(
                f"{self.path}/{splits.TEST} has classes that {self.path}/{splits.TRAIN} lacks: "
                f"{', '.join(sorted(unknown))}."
            )

    @classmethod
    def recognises(cls, path: str, names: Set[str]) -> bool:
        return folder_layout.has_pictures(names) or any(name.partition("/")[0] in splits.SPLITS for name in names)

    def require_unlabelled(self) -> None:
        if not self.counts[splits.UNLABELLED]:
            raise DataError(f"{self.path} has no unlabelled pictures ({', '.join(ENDINGS)}): pretraining needs some.")

    def require_labelled(self) -> None:
        # There are pictures in both labelled splits or in neither.
        if not self.counts[splits.TEST]:
            raise DataError(
                f"{self.path} has no labelled pictures: evaluator.data needs some in {splits.TRAIN}/CLASS/ and "
                f"{splits.TEST}/CLASS/, or {LABELS_FILE}."
            )

    def path_of(self, name: str) -> str:
        """Returns the path or URI of a file."""
        return files.join(self.path, name)

    def unlabelled(self) -> dict[str, Entry]:
        """Returns how each unlabelled picture was listed, by its path relative to the folder."""
        return {item.name: self._listed[item.name] for item in self._pictures[splits.UNLABELLED]}

    def leave_out(self, names: Collection[str], reason: str) -> None:
        """Leaves out unlabelled pictures.

        Args:
            names: Their paths relative to the folder.
            reason: Why, in a few words.
        """
        chosen = set(names)
        kept = [item for item in self._pictures[splits.UNLABELLED] if item.name not in chosen]
        self._pictures[splits.UNLABELLED], self.counts[splits.UNLABELLED] = kept, len(kept)
        self.left_out = sorted([*self.left_out, *(LeftOut(reason, printable(name)) for name in chosen)])

    def _by_split(self, pictures: list[Item], settings: IngestSettings) -> dict[str, list[Item]]:
        by_split: dict[str, list[Item]] = {split: [] for split in splits.SPLITS}
        undivided = [item for item in pictures if item.split is None]
        if undivided and settings.split is None:
            raise SettingsError(
                f"{len(undivided)} labelled pictures of {self.path} have no split, such as "
                f"{printable(undivided[0].name)}: name the split in a column of {LABELS_FILE}, or divide them with "
                "--set 'data.split={train: 0.6, test: 0.4}'."
            )
        listed = ((files.join(self.path, item.name), self._listed[item.name]) for item in undivided)
        contents = (
            # A file without read permission needs a split, too, so that ingest can reject it by name.
            (item.name, b"" if isinstance(content, PermissionError) else content)
            for item, (_, content) in zip(undivided, files.read_ahead(listed), strict=True)
        )
        divided = dividing.divide(contents, settings.split) if settings.split else {}
        for item in pictures:
            by_split[item.split or divided[item.name]].append(item)
        return by_split

    def _classes(self, split: str) -> tuple[str, ...]:
        return tuple(sorted({item.class_name for item in self._pictures[split] if item.class_name is not None}))

    def _require_both_labelled_splits_or_none(self, names: list[str]) -> None:
        train, test = self.counts[splits.TRAIN], self.counts[splits.TEST]
        if bool(train) == bool(test):
            return
        empty, full = (splits.TEST, splits.TRAIN) if train else (splits.TRAIN, splits.TEST)
        other = folder_layout.validation_folder(names)
        hint = f" If {other}/ is what to test on, rename it to {splits.TEST}/." if other and train else ""
        raise DataError(
            f"{self.path} has labelled pictures of the split {full} but none ({', '.join(ENDINGS)}) of the split "
            f"{empty}: the evaluation needs both, and pretraining alone needs neither.{hint}"
        )

    def files(self) -> dict[str, Entry]:
        """Returns all pictures and the labels."""
        names = [item.name for items in self._pictures.values() for item in items]
        if self._labels_file:
            names.append(self._labels_file)
        return {files.join(self.path, name): self._listed[name] for name in names}

    def work(self, images: int) -> list[Work]:
        """Divides the sorted pictures of each split."""
        return [
            Work(split, first, len(part), [(item, self._listed[item.name]) for item in part])
            for split, items in self._pictures.items()
            for first in range(0, len(items), images)
            for part in [items[first : first + images]]
        ]

    def read(self, work: Work) -> Iterator[Picture]:
        """Yields the bytes of each file; a file without read permission becomes a picture with an error."""
        classes = {name: label for label, name in enumerate(self.class_names)}
        listed = [(files.join(self.path, item.name), entry) for item, entry in work.payload]
        items = (item for item, _ in work.payload)
        for index, (item, (_, content)) in enumerate(zip(items, files.read_ahead(listed), strict=True), work.first):
            label = splits.NO_LABEL if item.class_name is None else classes[item.class_name]
            if isinstance(content, PermissionError):
                yield Picture(work.split, index, printable(item.name), b"", label, error=files.NO_PERMISSION)
            else:
                yield Picture(work.split, index, printable(item.name), content, label)
