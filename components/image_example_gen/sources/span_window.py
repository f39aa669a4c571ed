"""Several spans of a source, which a run trains on together."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from components.image_example_gen import digests
from components.image_example_gen.sources import exclusion
from components.image_example_gen.sources.base import LeftOut, Picture, Source, Work
from components.image_example_gen.sources.files import Entry
from components.image_example_gen.sources.image_folder import ImageFolder
from trainer import splits

_LABELLED = (splits.TRAIN, splits.TEST)


def joined(paths: Sequence[str]) -> str:
    """Returns one text for the paths of several spans, which `paths` takes apart; a single path stays as it is."""
    return paths[0] if len(paths) == 1 else json.dumps(list(paths))


def paths(source: str) -> list[str]:
    """Returns the paths in a text that `joined` returned. No path starts like the text for several."""
    return json.loads(source) if source.startswith('["') else [source]


class SpanWindow(Source):
    """The unlabelled images of all spans, and the labelled images of the newest span that has some.

    A file that has the same content in several spans counts once, in the oldest of them, if the spans are folders of
    pictures.

    Args:
        spans: The spans, from the oldest to the newest.
    """

    kind = "spans"

    def __init__(self, spans: Sequence[Source]):
        self.spans = tuple(spans)
        self.path = self.spans[-1].path
        self._names = [f"{number}-{span.path.rpartition('/')[2]}" for number, span in enumerate(self.spans)]
        if len({span.path.rpartition("/")[2] for span in self.spans}) == len(self.spans):
            self._names = [span.path.rpartition("/")[2] for span in self.spans]
        _leave_out_repeated(self.spans)
        # Counts are asked for as late as possible: some sources must be read to count their images.
        self._labelled: int | None = None

    @property
    def _newest_labelled(self) -> Source:
        if self._labelled is None:
            numbers = range(len(self.spans) - 1, -1, -1)
            self._labelled = next((i for i in numbers if self.spans[i].counts[splits.TEST]), len(self.spans) - 1)
        return self.spans[self._labelled]

    @property
    def counts(self) -> dict[str, int]:  # type: ignore[override]
        """The number of images in each split."""
        labelled = {split: self._newest_labelled.counts[split] for split in _LABELLED}
        return {splits.UNLABELLED: sum(span.counts[splits.UNLABELLED] for span in self.spans), **labelled}

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of the classes in the newest span with labelled images."""
        return self._newest_labelled.class_names

    @property
    def left_out(self) -> Sequence[LeftOut]:  # type: ignore[override]
        """What each span leaves out, and the labelled images of earlier spans."""
        # A name in `data.exclude` need not be in every span.
        missing = [{file for file in span.left_out if file.reason == exclusion.MISSING} for span in self.spans]
        found = [*set.intersection(*missing)]
        for name, span in zip(self._names, self.spans, strict=True):
            others = (file for file in span.left_out if file.reason != exclusion.MISSING)
            found += [LeftOut(file.reason, f"{name}/{file.name}") for file in others]
            if span is not self._newest_labelled:
                found += [
                    LeftOut("labelled, in an earlier span", f"{name}/{split}: {span.counts[split]} images")
                    for split in _LABELLED
                    if span.counts[split]
                ]
        return sorted(found)

    def files(self) -> dict[str, Entry]:
        """Returns all files of all spans."""
        return {path: entry for span in self.spans for path, entry in span.files().items()}

    def shards(self, split: str, images: int) -> int:
        """Returns the sum of the spans' shards: no shard holds images of two spans."""
        return sum(span.shards(split, images) for span in self._spans_of(split))

    def work(self, images: int) -> list[Work]:
        """Returns the parts of all spans. An archive is one part with all of its splits."""
        works = []
        before = dict.fromkeys(splits.SPLITS, 0)
        for number, span in enumerate(self.spans):
            works += [Work(work.split, 0, work.count, (number, dict(before), work)) for work in span.work(images)]
            for split in splits.SPLITS:
                if span in self._spans_of(split):
                    before[split] += images * span.shards(split, images)
        return [work for work in works if not work.split or self.spans[work.payload[0]] in self._spans_of(work.split)]

    def read(self, work: Work) -> Iterator[Picture]:
        """Yields the pictures of one part, with indices that no other span has."""
        number, before, inner = work.payload
        span = self.spans[number]
        for picture in span.read(inner):
            if span in self._spans_of(picture.split):
                yield replace(
                    picture, index=before[picture.split] + picture.index, id=f"{self._names[number]}/{picture.id}"
                )

    def _spans_of(self, split: str) -> Sequence[Source]:
        return self.spans if split == splits.UNLABELLED else (self._newest_labelled,)


def _leave_out_repeated(spans: Sequence[Source]) -> None:
    folders = [span for span in spans if isinstance(span, ImageFolder)]
    # Only files of one size can be equal, so that few of them are read.
    spans_of_size: dict[int, set[int]] = {}
    for number, folder in enumerate(folders):
        for entry in folder.unlabelled().values():
            spans_of_size.setdefault(entry.size, set()).add(number)
    seen: dict[str, int] = {}
    for number, folder in enumerate(folders):
        listed = folder.unlabelled()
        alike = {name: entry for name, entry in listed.items() if len(spans_of_size[entry.size]) > 1}
        contents = _contents(folder, alike)
        repeated = [name for name in alike if seen.setdefault(contents[name], number) != number]
        if repeated:
            folder.leave_out(repeated, "in an earlier span, too")


def _contents(folder: ImageFolder, listed: Mapping[str, Entry]) -> dict[str, str]:
    """Returns what tells the contents of files apart, by name: checksums of objects, and digests of local files."""
    local = {folder.path_of(name): entry for name, entry in listed.items() if not entry.checksum}
    found = digests.digests(folder.path, local, None)
    return {name: entry.checksum or found[folder.path_of(name)] for name, entry in listed.items()}
