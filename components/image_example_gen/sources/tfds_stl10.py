"""`stl10` as TensorFlow Datasets (TFDS) prepares it in a data_dir. It has no fold indices."""

import re
from collections.abc import Iterator, Set

from components.image_example_gen.config import IngestSettings
from components.image_example_gen.sources import files
from components.image_example_gen.sources.base import Picture, StoredSource, Work, ranges
from components.image_example_gen.sources.files import Entry, Listing
from trainer import splits, storage
from trainer.errors import DataError

# The file that marks the folder of a prepared version.
_INFO = "dataset_info.json"
# TFDS's names of the splits.
_SPLIT_NAMES = {splits.UNLABELLED: "unlabelled", splits.TRAIN: "train", splits.TEST: "test"}


class TfdsStl10(StoredSource):
    """Opens the prepared data set in `path`, which is a TFDS data_dir or the folder of a prepared version.

    Raises:
        DataError: If nothing is prepared there, or if a split is missing or empty.
    """

    kind = "tfds stl10"
    description = "a TensorFlow Datasets data_dir with a prepared stl10"

    def __init__(self, path: str, listing: Listing, settings: IngestSettings):
        self.path = path
        if path.startswith(storage.S3):
            raise DataError(
                f"{path} cannot be read: TensorFlow Datasets does not read {storage.S3}. Copy its data_dir to a disk "
                f"or to {storage.CLOUD}."
            )
        version = _newest_version(listing.files.keys())
        if version is None:
            raise DataError(f"{path} has no prepared TFDS stl10: stl10/VERSION/{_INFO} is missing.")
        self._prepared = files.join(path, version).rstrip("/")
        self._listed = {
            files.join(path, name): entry
            for name, entry in listing.files.items()
            if name.rpartition("/")[0] == version.rstrip("/")
        }
        builder = self._builder()
        self.counts = {}
        for split, name in _SPLIT_NAMES.items():
            if name not in builder.info.splits or not builder.info.splits[name].num_examples:
                raise DataError(f"{self._prepared} has no images in the split {name}.")
            self.counts[split] = builder.info.splits[name].num_examples
        self.class_names = tuple(builder.info.features["label"].names)

    @classmethod
    def recognises(cls, path: str, names: Set[str]) -> bool:
        return _newest_version(names) is not None

    def _builder(self):
        import tensorflow_datasets as tfds

        return tfds.builder_from_directory(self._prepared)

    def files(self) -> dict[str, Entry]:
        """Returns all files of the prepared version."""
        return self._listed

    def work(self, images: int) -> list[Work]:
        """Divides the splits into ranges of indices."""
        return [work for split, count in self.counts.items() for work in ranges(split, count, images)]

    def read(self, work: Work) -> Iterator[Picture]:
        """Yields the images of one range of indices, decoded by TFDS."""
        import tensorflow_datasets as tfds

        part = f"{_SPLIT_NAMES[work.split]}[{work.first}:{work.first + work.count}]"
        in_order = tfds.ReadConfig(interleave_cycle_length=1)
        rows = self._builder().as_dataset(split=part, shuffle_files=False, read_config=in_order)
        for index, row in enumerate(rows.as_numpy_iterator(), work.first):
            label = splits.NO_LABEL if work.split == splits.UNLABELLED else int(row["label"])
            yield Picture(work.split, index, f"{work.split}/{index:06d}", row["image"], label)


def _newest_version(names: Set[str]) -> str | None:
    """Selects the folder of the newest prepared version: `stl10/VERSION/`, or an empty path for the folder itself."""
    versions = [name for name in names if name == _INFO or re.fullmatch(rf"stl10/[^/]+/{re.escape(_INFO)}", name)]
    return max(versions).removesuffix(_INFO) if versions else None
