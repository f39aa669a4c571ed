"""TensorFlow Datasets' `stl10`, already prepared in a data_dir. It has no fold indices."""

from collections.abc import Iterator

from components.image_example_gen.sources import files
from components.image_example_gen.sources.base import Picture, Source, Work, ranges
from trainer import examples
from trainer.errors import DataError

_SPLIT_OF = {examples.UNLABELLED: "unlabelled", examples.TRAIN: "train", examples.TEST: "test"}


def prepared_version(path: str) -> str | None:
    """The folder of the prepared version: `path` itself or the newest of `path/stl10/*`; None if there is none."""
    found = list(files.listing(path, "dataset_info.json"))
    found += files.listing(path, "stl10/*/dataset_info.json")
    return found[-1].rpartition("/")[0] if found else None


class TfdsStl10(Source):
    """Opens the prepared data set in `path`, a TFDS data_dir or the version's own folder.

    Raises:
        DataError: nothing is prepared there, or a split is missing or empty.
    """

    kind = "tfds stl10"

    def __init__(self, path: str):
        self.path = path
        prepared = prepared_version(path)
        if prepared is None:
            raise DataError(f"{path} holds no prepared TFDS stl10: expected stl10/VERSION/dataset_info.json.")
        self._prepared = prepared
        builder = self._builder()
        self.counts = {}
        for split, name in _SPLIT_OF.items():
            if name not in builder.info.splits or not builder.info.splits[name].num_examples:
                raise DataError(f"{self._prepared} has no images in the split {name}.")
            self.counts[split] = builder.info.splits[name].num_examples
        self.class_names = tuple(builder.info.features["label"].names)

    def _builder(self):
        import tensorflow_datasets as tfds

        return tfds.builder_from_directory(self._prepared)

    def files(self) -> list[str]:
        """All files of the prepared version."""
        return list(files.listing(self._prepared, "*"))

    def work(self, images: int) -> list[Work]:
        """Index ranges of the splits, which TFDS reads by themselves."""
        return [work for split, count in self.counts.items() for work in ranges(split, count, images)]

    def read(self, work: Work) -> Iterator[Picture]:
        """Decodes the range with TFDS."""
        import tensorflow_datasets as tfds

        part = f"{_SPLIT_OF[work.split]}[{work.first}:{work.first + work.count}]"
        in_order = tfds.ReadConfig(interleave_cycle_length=1)
        rows = self._builder().as_dataset(split=part, shuffle_files=False, read_config=in_order)
        for index, row in enumerate(rows.as_numpy_iterator(), work.first):
            label = examples.NO_LABEL if work.split == examples.UNLABELLED else int(row["label"])
            yield Picture(work.split, index, f"{work.split}/{index:06d}", row["image"], label)
