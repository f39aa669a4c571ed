"""TFRecords that another program has written: `tf.train.Example`s with encoded pictures."""

import re
from collections.abc import Iterator, Set
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from components.image_example_gen.config import IngestSettings
from components.image_example_gen.sources import files
from components.image_example_gen.sources.base import Picture, StoredSource, Work
from components.image_example_gen.sources.files import Entry, Listing
from components.image_example_gen.sources.folder_layout import split_of_name
from trainer import splits, storage
from trainer.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf

_MARK = "tfrecord"
_GZIP = b"\x1f\x8b"


class _File(NamedTuple):
    """One file of records.

    Attributes:
        name: Its path relative to the source.
        split: The split that its name gives.
        gzipped: Whether it is compressed.
        records: Number of its records.
    """

    name: str
    split: str
    gzipped: bool
    records: int


class _Piece(NamedTuple):
    """Consecutive records of a file."""

    file: _File
    first: int
    records: int


class TfRecords(StoredSource):
    """Opens the TFRecords below `path`. Their files' or folders' names say to which split they belong.

    The records are counted, and the labels read, when they are first asked for.

    Raises:
        DataError: From every method and property that reads the records: if a file is damaged, if the records do not
            have the features that the settings name, or if the splits contradict each other.
    """

    kind = "tfrecords"
    description = (
        f"a folder of TFRecords with encoded pictures, whose files or folders are named by the splits "
        f"({splits.TRAIN}-00000-of-00010.tfrecord)"
    )

    def __init__(self, path: str, listing: Listing, settings: IngestSettings):
        self.path = path
        if path.startswith(storage.S3):
            raise DataError(
                f"{path} cannot be read: TensorFlow reads no records from {storage.S3}. Copy them to a disk or to "
                f"{storage.CLOUD}."
            )
        self._features = settings.tfrecord
        self._names: dict[str, str] = {}
        self._listed = listing.files
        for name in listing.files:
            if not _is_records(name):
                continue
            split = next((split for part in _words(name) if (split := split_of_name(part))), None)
            if split is None:
                raise DataError(
                    f"{files.join(path, name)} does not say to which split it belongs: put {splits.UNLABELLED}, "
                    f"{splits.TRAIN} or {splits.TEST} into the name of the file or its folder."
                )
            self._names[name] = split

    @classmethod
    def recognises(cls, path: str, names: Set[str]) -> bool:
        return any(_is_records(name) for name in names)

    def require_unlabelled(self) -> None:
        if splits.UNLABELLED not in self._names.values():
            raise DataError(f"{self.path} has no TFRecords of the split {splits.UNLABELLED}: pretraining needs some.")

    def require_labelled(self) -> None:
        if not {splits.TRAIN, splits.TEST} <= set(self._names.values()):
            raise DataError(f"{self.path} lacks TFRecords of the split {splits.TRAIN} or {splits.TEST}.")

    @cached_property
    def _read(self) -> tuple[list[_File], dict[str, list[Any]]]:
        """Reads all records once: the files with their counts, and the labels of each split."""
        found, labels = [], dict[str, list[Any]]({split: [] for split in splits.SPLITS})
        for name, split in self._names.items():
            gzipped = files.read(files.join(self.path, name), 0, len(_GZIP)) == _GZIP
            of_file = [self._label(example, name, split) for example in self._examples(name, gzipped)]
            labels[split] += of_file
            found.append(_File(name, split, gzipped, len(of_file)))
        return found, labels

    @property
    def counts(self) -> dict[str, int]:  # type: ignore[override]
        """The number of images in each split."""
        return {split: len(labels) for split, labels in self._read[1].items()}

    @cached_property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of the classes: the texts that are labels, or the numbers up to the largest one."""
        labels = self._read[1]
        names = {split: set(labels[split]) for split in (splits.TRAIN, splits.TEST)}
        every = names[splits.TRAIN] | names[splits.TEST]
        if len({type(label) for label in every}) > 1:
            raise DataError(f"{self.path}: some labels are texts and some are numbers.")
        unknown = names[splits.TEST] - names[splits.TRAIN]
        if unknown:
            raise DataError(
                f"{self.path}: the split {splits.TEST} has labels that {splits.TRAIN} lacks: "
                f"{', '.join(sorted(map(str, unknown)))}."
            )
        if any(isinstance(label, int) and label < 0 for label in every):
            raise DataError(f"{self.path}: the labels of {splits.TRAIN} and {splits.TEST} must be at least 0.")
        if every and all(isinstance(label, int) for label in every):
            return tuple(str(number) for number in range(max(every) + 1))
        return tuple(sorted(every))

    def files(self) -> dict[str, Entry]:
        """Returns all files of records."""
        return {files.join(self.path, name): self._listed[name] for name in self._names}

    def work(self, images: int) -> list[Work]:
        """Divides the records of each split, whose files follow one another."""
        self.class_names  # noqa: B018 Before ingest starts, the labels are checked.
        works = []
        for split in splits.SPLITS:
            pieces, room, first = list[_Piece](), images, 0
            for file in (file for file in self._read[0] if file.split == split):
                start = 0
                while start < file.records:
                    taken = min(room, file.records - start)
                    pieces.append(_Piece(file, start, taken))
                    start, room = start + taken, room - taken
                    if not room:
                        works.append(Work(split, first, images, pieces))
                        pieces, room, first = [], images, first + images
            if pieces:
                works.append(Work(split, first, images - room, pieces))
        return works

    def read(self, work: Work) -> Iterator[Picture]:
        """Yields the encoded pictures of consecutive records."""
        classes = {name: number for number, name in enumerate(self.class_names)}
        index = work.first
        for file, first, count in work.payload:
            for number, example in enumerate(self._examples(file.name, file.gzipped, first, count), first):
                label = splits.NO_LABEL
                if file.split != splits.UNLABELLED:
                    label = classes[str(self._label(example, file.name, file.split))]
                content = example.features.feature[self._features.image].bytes_list.value[0]
                yield Picture(work.split, index, f"{file.name}/{number}", content, label)
                index += 1

    def _label(self, example: "tf.train.Example", name: str, split: str) -> Any:
        features = example.features.feature
        if not features[self._features.image].bytes_list.value:
            found = sorted(feature for feature, value in features.items() if value.WhichOneof("kind"))
            raise DataError(
                f"{files.join(self.path, name)}: a record has no picture in the feature {self._features.image}; it has "
                f"the features {', '.join(found)}. Name the right one: --set data.tfrecord.image=NAME."
            )
        if split == splits.UNLABELLED:
            return None
        label = features[self._features.label]
        values = [*label.int64_list.value, *(text.decode() for text in label.bytes_list.value)]
        if len(values) != 1:
            raise DataError(
                f"{files.join(self.path, name)}: a record has {len(values)} labels in the feature "
                f"{self._features.label}, and needs one. Name the right one: --set data.tfrecord.label=NAME."
            )
        return values[0]

    def _examples(self, name: str, gzipped: bool, first: int = 0, count: int = -1) -> Iterator["tf.train.Example"]:
        import tensorflow as tf
        from google.protobuf.message import DecodeError

        path = files.join(self.path, name)
        records = tf.data.TFRecordDataset(path, "GZIP" if gzipped else "").skip(first).take(count)
        try:
            for record in records.as_numpy_iterator():
                yield tf.train.Example.FromString(record)
        except tf.errors.DataLossError as error:
            raise DataError(f"{path} is damaged or cut off: {error.message}") from error
        except DecodeError as error:
            raise DataError(f"{path}: a record is no tf.train.Example: {error}") from error


def _is_records(name: str) -> bool:
    return _MARK in name.lower() and not any(part.startswith(".") for part in name.split("/"))


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z]+", name.lower())
