"""A view of another source that hides its unlabelled images, for a data set that only the evaluation uses."""

from collections.abc import Iterator

from components.image_example_gen.sources import exclusion
from components.image_example_gen.sources.base import Picture, Source, Work
from components.image_example_gen.sources.files import Entry
from trainer import splits


class LabelledOnly(Source):
    """The splits `train` and `test` of `source`; its split `unlabelled` appears empty."""

    def __init__(self, source: Source):
        self._source = source
        self.kind, self.path = source.kind, source.path
        # `data.exclude` may list files of the source to pretrain on.
        self.left_out = [file for file in source.left_out if file.reason != exclusion.MISSING]

    @property
    def counts(self) -> dict[str, int]:  # type: ignore[override]
        """The number of images in each split. Computed on demand: some sources must be read to count their images."""
        return self._source.counts | {splits.UNLABELLED: 0}

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The class names of the whole source."""
        return self._source.class_names

    def files(self) -> dict[str, Entry]:
        """Returns all files of the whole source, because a file may hold several splits."""
        return self._source.files()

    def work(self, images: int) -> list[Work]:
        """Returns the parts of the whole source without those that are entirely unlabelled."""
        return [work for work in self._source.work(images) if work.split != splits.UNLABELLED]

    def read(self, work: Work) -> Iterator[Picture]:
        """Yields the labelled pictures of one part."""
        return (picture for picture in self._source.read(work) if picture.split != splits.UNLABELLED)
