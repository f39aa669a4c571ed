"""`stl10_binary.tar.gz` as it is downloaded: read as a stream, never unpacked to disk or held in memory.

A gzip stream has no random access: the first request for counts, class names or labels reads the whole archive, and
ingest reads it once more for the pixels, on one worker. Therefore ISA-L decompresses it, two to three times as fast as
zlib, in a thread of its own that reads ahead. Opening the archive reads nothing, so that a run whose images have not
changed stays quick.
"""

import tarfile
from collections.abc import Iterator, Set
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import IO

from components.image_example_gen import stl10
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.sources import files, stl10_files
from components.image_example_gen.sources.base import Labels, Picture, StoredSource, Work
from components.image_example_gen.sources.files import Entry, Listing
from trainer import splits
from trainer.errors import DataError

_ENDINGS = (".tar.gz", ".tgz", ".tar")
# The first bytes of a gzip stream. Some browsers decompress an archive and keep its name.
_GZIP = b"\x1f\x8b"
_IMAGES_PER_READ = 256
_BYTES_PER_READ = 2**20
# The files of labels, folds and class names are read into memory. STL-10's are far smaller than this.
_MOST_BYTES_IN_MEMORY = 64 * 2**20


@dataclass(frozen=True)
class _Index:
    """What the archive contains besides pixels, from its small members and the sizes of its large ones."""

    counts: dict[str, int]
    class_names: tuple[str, ...]
    labels: dict[str, Labels]


class Stl10Archive(StoredSource):
    """The tar file at `path`, gzipped or not. It is checked when it is read, and not when it is opened.

    Raises:
        DataError: From every method and property that reads the archive: if it is damaged, if it lacks a file, or if
            one of its files contradicts another.
    """

    kind = "stl10 archive"
    description = "an STL-10 archive (stl10_binary.tar.gz)"

    def __init__(self, path: str, listing: Listing, settings: IngestSettings):
        self.path = path
        self._listed = listing.files[""]

    @classmethod
    def recognises(cls, path: str, names: Set[str]) -> bool:
        return path.lower().endswith(_ENDINGS) and not names

    @cached_property
    def _index(self) -> _Index:
        sizes: dict[str, int] = {}
        contents: dict[str, bytes] = {}
        with self._opened() as archive:
            for name, size, stream in self._members(archive):
                sizes[name] = size
                if name in stl10_files.SMALL_FILES:
                    if size > _MOST_BYTES_IN_MEMORY:
                        raise DataError(f"{self.path}: {name} has {size} bytes, too many for STL-10's layout.")
                    contents[name] = stream.read()
        stl10_files.require_all(self.path, sizes)
        counts = stl10_files.image_counts(self.path, sizes)
        return _Index(
            counts,
            stl10_files.class_names(self.path, contents[stl10.CLASS_NAMES]),
            stl10_files.labels(self.path, contents, counts),
        )

    @property
    def counts(self) -> dict[str, int]:  # type: ignore[override]
        """The number of images in each split."""
        return self._index.counts

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of the classes, in the order of the labels."""
        return self._index.class_names

    def files(self) -> dict[str, Entry]:
        """Returns the archive."""
        return {self.path: self._listed}

    def work(self, images: int) -> list[Work]:
        """Returns the whole stream as one part, because a gzip stream cannot be read from the middle."""
        return [Work("", 0, sum(self.counts.values()))]

    def read(self, work: Work) -> Iterator[Picture]:
        """Yields the images of every split, in the order of the archive."""
        split_of = {name: split for split, name in stl10_files.IMAGES_OF.items()}
        with self._opened() as archive:
            for name, _, stream in self._members(archive):
                if name not in split_of:
                    continue
                split = split_of[name]
                labels = self._index.labels.get(split)
                index = 0
                while stored := stream.read(_IMAGES_PER_READ * stl10.IMAGE_BYTES):
                    for image in stl10.decode_images(stored):
                        label, folds = labels.of(index) if labels else (splits.NO_LABEL, ())
                        yield Picture(split, index, f"{split}/{index:06d}", image, label, folds)
                        index += 1

    def _members(self, archive: tarfile.TarFile) -> Iterator[tuple[str, int, IO[bytes]]]:
        """Yields base name, size and stream of each regular file of the layout, in the order of the archive.

        The folders in the members' names are ignored, and so is every link.
        """
        seen = set()
        for member in archive:
            name = member.name.rpartition("/")[2]
            stream = archive.extractfile(member) if member.isreg() and name in stl10.FILES else None
            if stream:
                if name in seen:
                    raise DataError(f"{self.path} contains {name} twice.")
                seen.add(name)
                yield name, member.size, stream

    @contextmanager
    def _opened(self) -> Iterator[tarfile.TarFile]:
        """Opens the archive. Errors inside the `with` block, where its members are read, become DataErrors."""
        from isal import igzip_threaded, isal_zlib

        with files.opened(self.path) as file:
            try:
                gzipped = file.read(len(_GZIP)) == _GZIP
                file.seek(0)
                with (
                    igzip_threaded.open(file) if gzipped else nullcontext(file) as stream,
                    tarfile.open(fileobj=stream, mode="r|", bufsize=_BYTES_PER_READ) as archive,
                ):
                    yield archive
                    # Read to the end, where the checksum is: it reveals damaged pixels.
                    while stream.read(_BYTES_PER_READ):
                        pass
            # isal's type stub declares the class `error` as an instance.
            except (tarfile.TarError, isal_zlib.error, EOFError, OSError) as error:  # type: ignore[misc]
                raise DataError(
                    f"{self.path} is damaged or not a tar file: {error}. Download it again: nnclr data stl10 OUT."
                ) from error
