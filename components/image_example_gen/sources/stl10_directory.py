"""A directory in STL-10's binary layout: any range of its images can be read by itself."""

from collections.abc import Iterator

from components.image_example_gen import stl10
from components.image_example_gen.sources import files, stl10_files
from components.image_example_gen.sources.base import Picture, Source, Work, ranges
from trainer import examples


class Stl10Directory(Source):
    """Opens `path`, which holds the unpacked archive.

    Raises:
        DataError: a file is missing, cut off, or contradicts another one.
    """

    kind = "stl10 directory"

    def __init__(self, path: str):
        self.path = path
        sizes = {name.rpartition("/")[2]: size for name, size in files.listing(path, "*").items()}
        stl10_files.require_all(path, sizes)
        self.counts = stl10_files.image_counts(path, sizes)
        contents = {}
        for name in stl10_files.SMALL_FILES:
            with files.opened(files.join(path, name)) as file:
                contents[name] = file.read()
        self.class_names = stl10_files.class_names(path, contents[stl10.CLASS_NAMES])
        self._labels = stl10_files.labels(path, contents, self.counts)

    def files(self) -> list[str]:
        """All files of the layout."""
        return [files.join(self.path, name) for name in stl10.FILES]

    def work(self, images: int) -> list[Work]:
        """Byte ranges of the image files."""
        return [work for split, count in self.counts.items() for work in ranges(split, count, images)]

    def read(self, work: Work) -> Iterator[Picture]:
        """Seeks to the range and decodes it."""
        with files.opened(files.join(self.path, stl10_files.IMAGES_OF[work.split])) as file:
            file.seek(work.first * stl10.IMAGE_BYTES)
            stored = file.read(work.count * stl10.IMAGE_BYTES)
        labels = self._labels.get(work.split)
        for index, image in enumerate(stl10.decode_images(stored), work.first):
            label, folds = labels.of(index) if labels else (examples.NO_LABEL, ())
            yield Picture(work.split, index, f"{work.split}/{index:06d}", image, label, folds)
