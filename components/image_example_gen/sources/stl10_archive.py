"""`stl10_binary.tar.gz` as it is downloaded: read as a stream, never unpacked to disk or held in memory.

A gzip stream has no random access: whoever first asks for sizes or labels reads it through, and ingest reads it once
more for the pixels, on one worker. So it is decompressed by ISA-L, two to three times as fast as by zlib, and in a
thread of its own, ahead of who reads. Opening alone reads nothing, so that a run without news stays quick.
"""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import IO

from isal import igzip_threaded, isal_zlib

from components.image_example_gen import stl10
from components.image_example_gen.sources import files, stl10_files
from components.image_example_gen.sources.base import Labels, Picture, Source, Work
from trainer import examples
from trainer.errors import DataError

_IMAGES_A_READ = 256
_READ_BYTES = 2**20
_LARGEST_SMALL_FILE = 64 * 2**20


@dataclass(frozen=True)
class _Index:
    """What the small members and the sizes of the large ones say."""

    counts: dict[str, int]
    class_names: tuple[str, ...]
    labels: dict[str, Labels]


class Stl10Archive(Source):
    """The gzipped tar file at `path`; all but `files` raise what is listed here.

    Raises:
        DataError: it is damaged, lacks a file, or one of its files contradicts another.
    """

    kind = "stl10 archive"

    def __init__(self, path: str):
        self.path = path

    @cached_property
    def _index(self) -> _Index:
        sizes: dict[str, int] = {}
        contents: dict[str, bytes] = {}
        with self._opened() as archive:
            for name, size, stream in self._members(archive):
                sizes[name] = size
                if name in stl10_files.SMALL_FILES:
                    if size > _LARGEST_SMALL_FILE:
                        raise DataError(f"{self.path}: {name} has {size} bytes, far too many for STL-10's layout.")
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
        """Images of each split."""
        return self._index.counts

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """In the order of the labels."""
        return self._index.class_names

    def files(self) -> list[str]:
        """The archive."""
        return [self.path]

    def work(self, images: int) -> list[Work]:
        """The whole stream: it cannot be entered in the middle."""
        return [Work("", 0, sum(self.counts.values()))]

    def read(self, work: Work) -> Iterator[Picture]:
        """The images of every split, in the archive's order."""
        split_of = {name: split for split, name in stl10_files.IMAGES_OF.items()}
        with self._opened() as archive:
            for name, _, stream in self._members(archive):
                if name not in split_of:
                    continue
                split = split_of[name]
                labels = self._index.labels.get(split)
                index = 0
                while stored := stream.read(_IMAGES_A_READ * stl10.IMAGE_BYTES):
                    for image in stl10.decode_images(stored):
                        label, folds = labels.of(index) if labels else (examples.NO_LABEL, ())
                        yield Picture(split, index, f"{split}/{index:06d}", image, label, folds)
                        index += 1

    def _members(self, archive: tarfile.TarFile) -> Iterator[tuple[str, int, IO[bytes]]]:
        """Base name, size and stream of each regular file that belongs to the layout, in the archive's order.

        Only base names count: where a member wants to be unpacked to is never looked at.
        """
        seen = set()
        for member in archive:
            name = member.name.rpartition("/")[2]
            stream = archive.extractfile(member) if member.isreg() and name in stl10.FILES else None
            if stream:
                if name in seen:
                    raise DataError(f"{self.path} holds {name} twice.")
                seen.add(name)
                yield name, member.size, stream

    @contextmanager
    def _opened(self) -> Iterator[tarfile.TarFile]:
        """The archive; what goes wrong within the `with`, where its members are read, becomes a DataError."""
        with files.opened(self.path) as file:
            try:
                with (
                    igzip_threaded.open(file) as stream,
                    tarfile.open(fileobj=stream, mode="r|", bufsize=_READ_BYTES) as archive,
                ):
                    yield archive
                    # To the end: only there is the checksum, which tells of pixels that changed on their way.
                    while stream.read(_READ_BYTES):
                        pass
            # Its stub calls the class an instance.
            except (tarfile.TarError, isal_zlib.error, EOFError, OSError) as error:  # type: ignore[misc]
                raise DataError(
                    f"{self.path} is damaged or no gzipped tar file: {error}. Download it again: nnclr data stl10 OUT."
                ) from error
