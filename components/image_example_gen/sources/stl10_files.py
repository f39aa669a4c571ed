"""Checks that a directory and an archive in STL-10's layout share: of file sizes, class names, labels and folds."""

import codecs
from typing import TYPE_CHECKING

from components.image_example_gen import stl10
from components.image_example_gen.sources.base import Labels
from trainer import splits
from trainer.errors import DataError

if TYPE_CHECKING:
    import numpy as np

IMAGES_OF = {
    splits.UNLABELLED: stl10.UNLABELLED_IMAGES,
    splits.TRAIN: stl10.TRAIN_IMAGES,
    splits.TEST: stl10.TEST_IMAGES,
}
LABELS_OF = {splits.TRAIN: stl10.TRAIN_LABELS, splits.TEST: stl10.TEST_LABELS}
# The files that are small enough to be read into memory.
SMALL_FILES = (stl10.TRAIN_LABELS, stl10.TEST_LABELS, stl10.FOLD_INDICES, stl10.CLASS_NAMES)


def require_all(where: str, sizes: dict[str, int]) -> None:
    """Checks that every file of the layout is present.

    Args:
        where: The path of the source, for messages.
        sizes: The size in bytes of each file by its name.

    Raises:
        DataError: If files are missing.
    """
    missing = [name for name in stl10.FILES if name not in sizes]
    if missing:
        raise DataError(f"{where} lacks {', '.join(missing)} of STL-10's layout.")


def image_counts(where: str, sizes: dict[str, int]) -> dict[str, int]:
    """Computes the number of images in each split from the sizes of the files.

    Raises:
        DataError: If a file is empty or ends in the middle of an image.
    """
    counts = {}
    for split, name in IMAGES_OF.items():
        count, rest = divmod(sizes[name], stl10.IMAGE_BYTES)
        if rest:
            raise DataError(
                f"{where}: {name} has {sizes[name]} bytes, which is not a multiple of the {stl10.IMAGE_BYTES} bytes "
                f"of an image: it ends within the image with index {count}. Download or copy it again."
            )
        if not count:
            raise DataError(f"{where}: {name} has no images.")
        counts[split] = count
    return counts


def class_names(where: str, text: bytes) -> tuple[str, ...]:
    """Reads the class names from the contents of `class_names.txt`.

    Raises:
        DataError: If the number of names differs from the number of classes in the layout.
    """
    # Editors on Windows start a file with a byte-order mark.
    names = tuple(_decoded(where, stl10.CLASS_NAMES, text.removeprefix(codecs.BOM_UTF8)).split())
    if len(names) != stl10.CLASSES:
        raise DataError(f"{where}: {stl10.CLASS_NAMES} has {len(names)} names instead of {stl10.CLASSES}.")
    return names


def labels(where: str, contents: dict[str, bytes], counts: dict[str, int]) -> dict[str, Labels]:
    """Reads and checks the labels of the labelled splits.

    Args:
        where: The path of the source, for messages.
        contents: The contents of `SMALL_FILES` by name.
        counts: The number of images in each split.

    Raises:
        DataError: If there are too many or too few labels, if a label is outside 1..10, or if a fold contains the index
            of an image that does not exist.
    """
    folds = _folds(where, contents[stl10.FOLD_INDICES], counts[splits.TRAIN])
    return {
        splits.TRAIN: Labels(_classes(where, splits.TRAIN, contents, counts), folds),
        splits.TEST: Labels(_classes(where, splits.TEST, contents, counts)),
    }


def _classes(where: str, split: str, contents: dict[str, bytes], counts: dict[str, int]) -> "np.ndarray":
    import numpy as np

    name = LABELS_OF[split]
    stored = np.frombuffer(contents[name], np.uint8)
    if len(stored) != counts[split]:
        raise DataError(
            f"{where}: {name} has {len(stored)} labels for the {counts[split]} images of {IMAGES_OF[split]}."
        )
    wrong = np.flatnonzero((stored < 1) | (stored > stl10.CLASSES))
    if wrong.size:
        raise DataError(
            f"{where}: {name} has the label {stored[wrong[0]]} at index {wrong[0]}, outside 1..{stl10.CLASSES}; "
            f"{wrong.size} labels in all are outside. Labels are counted from 1."
        )
    return stored.astype(np.int64) - 1


def _folds(where: str, text: bytes, count: int) -> list[tuple[int, ...]]:
    memberships: list[list[int]] = [[] for _ in range(count)]
    text = text.removeprefix(codecs.BOM_UTF8)
    lines = [line for line in enumerate(_decoded(where, stl10.FOLD_INDICES, text).splitlines(), 1) if line[1].strip()]
    if len(lines) != stl10.FOLDS:
        raise DataError(
            f"{where}: {stl10.FOLD_INDICES} has {len(lines)} lines with indices instead of {stl10.FOLDS}, one for each "
            "fold."
        )
    for fold, (number, line) in enumerate(lines):
        for word in line.split():
            if not word.isdecimal() or int(word) >= count:
                raise DataError(
                    f"{where}: {stl10.FOLD_INDICES}, line {number}, contains {word!r}, "
                    f"but the images of {stl10.TRAIN_IMAGES} have the indices 0 to {count - 1}."
                )
            memberships[int(word)].append(fold)
    return [tuple(folds) for folds in memberships]


def _decoded(where: str, name: str, text: bytes) -> str:
    try:
        return text.decode("ascii")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: {name} is not a text file: {error}.") from error
