"""A directory in STL-10's binary layout. Any range of its images can be read on its own."""

from collections.abc import Iterator, Set

from components.image_example_gen import stl10
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.sources import files, stl10_files
from components.image_example_gen.sources.base import Picture, StoredSource, Work, ranges
from trainer import splits


class Stl10Directory(StoredSource):
    """Opens the directory `path` that contains the unpacked archive.

    Raises:
        DataError: If a file is missing, is cut off, or contradicts another file.
    """

    kind = "stl10 directory"
    description = "an unpacked STL-10 directory"

    def __init__(self, path: str, settings: IngestSettings):
        self.path = path
        sizes = files.listing(path)
        stl10_files.require_all(path, sizes)
        self.counts = stl10_files.image_counts(path, sizes)
        contents = {}
        for name in stl10_files.SMALL_FILES:
            with files.opened(files.join(path, name)) as file:
                contents[name] = file.read()
        self.class_names = stl10_files.class_names(path, contents[stl10.CLASS_NAMES])
        self._labels = stl10_files.labels(path, contents, self.counts)

    @classmethod
    def recognises(cls, path: str, names: Set[str]) -> bool:
        # One file of the layout is enough, so that the error for an incomplete directory names the missing files.
        return not names.isdisjoint(stl10.FILES)

    def files(self) -> list[str]:
        """Returns the paths of all files of the layout."""
        return [files.join(self.path, name) for name in stl10.FILES]

    def work(self, images: int) -> list[Work]:
        """Divides the image files into ranges of bytes."""
        return [work for split, count in self.counts.items() for work in ranges(split, count, images)]

    def read(self, work: Work) -> Iterator[Picture]:
        """Yields the images of one range of bytes."""
        with files.opened(files.join(self.path, stl10_files.IMAGES_OF[work.split])) as file:
            file.seek(work.first * stl10.IMAGE_BYTES)
            stored = file.read(work.count * stl10.IMAGE_BYTES)
        labels = self._labels.get(work.split)
        for index, image in enumerate(stl10.decode_images(stored), work.first):
            label, folds = labels.of(index) if labels else (splits.NO_LABEL, ())
            yield Picture(work.split, index, f"{work.split}/{index:06d}", image, label, folds)
