"""A directory in STL-10's binary layout. Any range of its images can be read on its own."""

from collections.abc import Iterator, Set

from components.image_example_gen import stl10
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.sources import files, stl10_files
from components.image_example_gen.sources.base import Picture, StoredSource, Work, ranges
from components.image_example_gen.sources.files import Entry, Listing
from trainer import splits


class Stl10Directory(StoredSource):
    """Opens the directory `path` that contains the unpacked archive.

    Raises:
        DataError: If a file is missing, is cut off, or contradicts another file.
    """

    kind = "stl10 directory"
    description = "an unpacked STL-10 directory"

    def __init__(self, path: str, listing: Listing, settings: IngestSettings):
        self.path = path
        sizes = {name: entry.size for name, entry in listing.files.items()}
        stl10_files.require_all(path, sizes)
        self.counts = stl10_files.image_counts(path, sizes)
        self._listed = {files.join(path, name): listing.files[name] for name in stl10.FILES}
        contents = {name: files.read(files.join(path, name)) for name in stl10_files.SMALL_FILES}
        self.class_names = stl10_files.class_names(path, contents[stl10.CLASS_NAMES])
        self._labels = stl10_files.labels(path, contents, self.counts)

    @classmethod
    def recognises(cls, path: str, names: Set[str]) -> bool:
        # One file of the layout is enough, so that the error for an incomplete directory names the missing files.
        return not names.isdisjoint(stl10.FILES)

    def files(self) -> dict[str, Entry]:
        """Returns all files of the layout."""
        return self._listed

    def work(self, images: int) -> list[Work]:
        """Divides the image files into ranges of bytes."""
        return [work for split, count in self.counts.items() for work in ranges(split, count, images)]

    def read(self, work: Work) -> Iterator[Picture]:
        """Yields the images of one range of bytes."""
        path = files.join(self.path, stl10_files.IMAGES_OF[work.split])
        stored = files.read(path, work.first * stl10.IMAGE_BYTES, work.count * stl10.IMAGE_BYTES)
        labels = self._labels.get(work.split)
        for index, image in enumerate(stl10.decode_images(stored), work.first):
            label, folds = labels.of(index) if labels else (splits.NO_LABEL, ())
            yield Picture(work.split, index, f"{work.split}/{index:06d}", image, label, folds)
