"""What a directory and an archive in STL-10's layout have in common: the checks of their small files."""

import numpy as np

from components.image_example_gen import stl10
from components.image_example_gen.sources.base import Labels
from trainer import examples
from trainer.errors import DataError

IMAGES_OF = {
    examples.UNLABELLED: stl10.UNLABELLED_IMAGES,
    examples.TRAIN: stl10.TRAIN_IMAGES,
    examples.TEST: stl10.TEST_IMAGES,
}
LABELS_OF = {examples.TRAIN: stl10.TRAIN_LABELS, examples.TEST: stl10.TEST_LABELS}
SMALL_FILES = (stl10.TRAIN_LABELS, stl10.TEST_LABELS, stl10.FOLD_INDICES, stl10.CLASS_NAMES)


def require_all(where: str, sizes: dict[str, int]) -> None:
    """Demands every file of the layout.

    Raises:
        DataError: files are missing.
    """
    missing = [name for name in stl10.FILES if name not in sizes]
    if missing:
        raise DataError(f"{where} lacks {', '.join(missing)} of STL-10's layout.")


def image_counts(where: str, sizes: dict[str, int]) -> dict[str, int]:
    """Images of each split, from the sizes of the files.

    Raises:
        DataError: a file is empty or ends in the middle of an image.
    """
    counts = {}
    for split, name in IMAGES_OF.items():
        count, rest = divmod(sizes[name], stl10.IMAGE_BYTES)
        if rest:
            raise DataError(
                f"{where}: {name} has {sizes[name]} bytes, no multiple of an image's {stl10.IMAGE_BYTES}: "
                f"it breaks off in the image with index {count}. Download or copy it again."
            )
        if not count:
            raise DataError(f"{where}: {name} holds no images.")
        counts[split] = count
    return counts


def class_names(where: str, text: bytes) -> tuple[str, ...]:
    """The lines of `class_names.txt`.

    Raises:
        DataError: there are not as many as the layout has classes.
    """
    names = tuple(_decoded(where, stl10.CLASS_NAMES, text).split())
    if len(names) != stl10.CLASSES:
        raise DataError(f"{where}: {stl10.CLASS_NAMES} has {len(names)} names, expected {stl10.CLASSES}.")
    return names


def labels(where: str, contents: dict[str, bytes], counts: dict[str, int]) -> dict[str, Labels]:
    """Checked labels of the labelled splits.

    Args:
        where: the source, for messages.
        contents: of `SMALL_FILES`.
        counts: images of each split.

    Raises:
        DataError: labels are too many, too few or outside 1..10, or a fold names an image that does not exist.
    """
    folds = _folds(where, contents[stl10.FOLD_INDICES], counts[examples.TRAIN])
    return {
        examples.TRAIN: Labels(_classes(where, examples.TRAIN, contents, counts), folds),
        examples.TEST: Labels(_classes(where, examples.TEST, contents, counts)),
    }


def _classes(where: str, split: str, contents: dict[str, bytes], counts: dict[str, int]) -> np.ndarray:
    name = LABELS_OF[split]
    stored = np.frombuffer(contents[name], np.uint8)
    if len(stored) != counts[split]:
        raise DataError(
            f"{where}: {name} has {len(stored)} labels for the {counts[split]} images of {IMAGES_OF[split]}."
        )
    wrong = np.flatnonzero((stored < 1) | (stored > stl10.CLASSES))
    if wrong.size:
        raise DataError(
            f"{where}: {name} has the label {stored[wrong[0]]} at index {wrong[0]}, outside 1..{stl10.CLASSES}"
            f" ({wrong.size} such in all)."
        )
    return stored.astype(np.int64) - 1


def _folds(where: str, text: bytes, count: int) -> list[tuple[int, ...]]:
    memberships: list[list[int]] = [[] for _ in range(count)]
    for fold, line in enumerate(_decoded(where, stl10.FOLD_INDICES, text).splitlines()):
        for word in line.split():
            if not word.isdecimal() or int(word) >= count:
                raise DataError(
                    f"{where}: {stl10.FOLD_INDICES}, line {fold + 1}, names the image {word!r}, "
                    f"but {stl10.TRAIN_IMAGES} has the images 0 to {count - 1}."
                )
            memberships[int(word)].append(fold)
    return [tuple(folds) for folds in memberships]


def _decoded(where: str, name: str, text: bytes) -> str:
    try:
        return text.decode("ascii")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: {name} is no text: {error}.") from error
