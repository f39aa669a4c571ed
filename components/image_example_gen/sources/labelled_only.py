"""Another source without its unlabelled images: a labelled set to evaluate with."""

from collections.abc import Iterator

from components.image_example_gen.sources.base import Picture, Source, Work
from trainer import examples


class LabelledOnly(Source):
    """The splits `train` and `test` of `source`."""

    def __init__(self, source: Source):
        self._source = source
        self.kind, self.path = source.kind, source.path

    @property
    def counts(self) -> dict[str, int]:  # type: ignore[override]
        """None are unlabelled. Looked up late: some sources must be read to count their images."""
        return self._source.counts | {examples.UNLABELLED: 0}

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the whole source."""
        return self._source.class_names

    def files(self) -> list[str]:
        """Those of the whole source: some hold several splits."""
        return self._source.files()

    def work(self, images: int) -> list[Work]:
        """The whole source's, less what is unlabelled throughout."""
        return [work for work in self._source.work(images) if work.split != examples.UNLABELLED]

    def read(self, work: Work) -> Iterator[Picture]:
        """The labelled pictures of one part."""
        return (picture for picture in self._source.read(work) if picture.split != examples.UNLABELLED)
