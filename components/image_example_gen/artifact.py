"""The artifact `examples` of ImageExampleGen: TFRecords in a folder for each split, their survey, `dataset.json`."""

from components import artifact_files
from components.artifact_files import Content
from trainer import storage

#: Key of the output channel.
EXAMPLES = "examples"
#: File with one JSON line for each file that was found and not ingested: `split`, `id` and `reason`.
REJECTED_FILE = "rejected.jsonl"

_DATASET = "dataset.json"


class Dataset(Content):
    """What was ingested.

    Attributes:
        source: Path or URI of the images.
        fingerprint: Fingerprint of the source's contents.
        kind: Kind of the source.
        image_size: Height and width of the images that an encoder is trained on, in pixels; 0 in summaries of nnclr
            0.1.0, which did not record it.
        stored_size: Length of the shorter side of the stored images, in pixels; None if they are squares of image_size.
        counts: Number of images by split.
        rejected: Number of images that could not be decoded.
        left_out: Number of other files that were found and not ingested, by reason.
        class_names: Names of the classes, in the order of the labels.
    """

    source: str
    fingerprint: str
    kind: str = ""
    image_size: int = 0
    stored_size: int | None = None
    counts: dict[str, int]
    rejected: int = 0
    left_out: dict[str, int] = {}
    class_names: tuple[str, ...] = ()

    def all_left_out(self) -> dict[str, int]:
        """Returns the number of all files that were found and not ingested, by reason."""
        return self.left_out | ({"undecodable": self.rejected} if self.rejected else {})


def split_directory(directory: str, split: str) -> str:
    """Returns TFX's folder of a split."""
    return f"{directory}/Split-{split}"


def write(directory: str, dataset: Dataset) -> None:
    """Writes `dataset.json`, which completes the artifact."""
    artifact_files.write_json(f"{directory}/{_DATASET}", dataset)


def read(directory: str) -> Dataset:
    """Reads `dataset.json`.

    Raises:
        FileNotFoundError: If the folder holds no ingested images.
    """
    return artifact_files.read_json(f"{directory}/{_DATASET}", Dataset)


def is_artifact(directory: str) -> bool:
    """Returns whether a folder, local or in a bucket, holds ingested images.

    Raises:
        DataError: If the storage fails.
    """
    with storage.explained(directory):
        return artifact_files.exists(f"{directory}/{_DATASET}")
