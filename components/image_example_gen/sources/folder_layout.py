"""Which files of a folder are pictures of which split and class, and why the others are left out."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from components.image_example_gen.sources.base import LeftOut
from components.image_example_gen.sources.labels_file import LABELS_FILE, Row
from components.image_example_gen.sources.picture_formats import ENDINGS, missing_package
from trainer import splits
from trainer.errors import DataError

# The names of the splits' folders, in any case.
_SPELLINGS = {
    splits.UNLABELLED: ("unlabelled", "unlabeled"),
    splits.TRAIN: ("train", "training"),
    splits.TEST: ("test", "testing"),
}
_SPLIT_OF = {spelling: split for split, spellings in _SPELLINGS.items() for spelling in spellings}
# Control characters, and what separates lines and paragraphs.
_CONTROL = ("Cc", "Zl", "Zp")
# What other data sets call the split that nnclr tests on.
_VALIDATION = ("val", "valid", "validation", "dev", "eval")


@dataclass(frozen=True)
class Item:
    """A picture of a folder.

    Attributes:
        name: The file's path, relative to the folder.
        split: The split that the picture belongs to; None for a labelled picture whose split is not given.
        class_name: The picture's class; None if the picture is unlabelled.
    """

    name: str
    split: str | None
    class_name: str | None = None


@dataclass(frozen=True)
class Layout:
    """The files of a folder.

    Attributes:
        pictures: The pictures, in the order of their names.
        left_out: The other files.
    """

    pictures: list[Item]
    left_out: list[LeftOut]


def divide(
    folder: str, names: Iterable[str], labels: Mapping[str, Row] | None = None, classes_are_folders: bool = False
) -> Layout:
    """Divides the files of a folder into pictures of the splits and files that are left out.

    The splits are the folders `unlabelled`, `train/CLASS` and `test/CLASS`. In a folder without these, all pictures are
    unlabelled, unless `labels` or `classes_are_folders` says otherwise.

    Args:
        folder: The folder, for messages.
        names: The paths of all files below the folder, relative to it.
        labels: Labels by path, from the folder's `labels.csv`; None if it has none.
        classes_are_folders: Whether in a folder without splits each folder holds the pictures of one class.

    Raises:
        DataError: If the folders contradict each other, or a picture cannot be told a split or class.
    """
    candidates, left_out = _pictures(sorted(names))
    if labels is not None:
        pictures = _with_labels(folder, candidates, labels)
    elif folders := _split_folders(folder, candidates):
        pictures, outside = _in_splits(folder, candidates, folders)
        left_out += outside
    else:
        _require_no_splits_below(folder, candidates)
        pictures = [_without_splits(name, classes_are_folders) for name in candidates]
    return Layout(pictures, sorted(left_out))


def has_pictures(names: Iterable[str]) -> bool:
    """Whether any of the files is a picture."""
    return any(_reason_to_leave_out(name) is None for name in names)


def printable(name: str) -> str:
    """Returns a file's name as text that can be stored and shown on a line of a terminal.

    Bytes that are not UTF-8 become `\\xNN`, as do control characters, which could change the terminal or add lines.
    """
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in _CONTROL else character
        for character in _decoded(name)
    )


def split_of_name(name: str) -> str | None:
    """Returns the split that a name spells, in any case; None if it spells none."""
    return _SPLIT_OF.get(name.lower())


def validation_folder(names: Iterable[str]) -> str | None:
    """Returns a folder whose name suggests that it holds the pictures to test on; None if there is none."""
    return next((first for name in names if (first := name.partition("/")[0]).lower() in _VALIDATION), None)


def _decoded(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _pictures(names: list[str]) -> tuple[list[str], list[LeftOut]]:
    pictures, left_out = [], []
    for name in names:
        reason = _reason_to_leave_out(name)
        if reason is None:
            pictures.append(name)
        else:
            left_out.append(LeftOut(reason, printable(name)))
    return pictures, left_out


def _reason_to_leave_out(name: str) -> str | None:
    path = PurePosixPath(name)
    if any(part.startswith(".") for part in path.parts):
        return "hidden"
    if name == LABELS_FILE:
        return "read as the labels"
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        return f"not a picture: {printable(ending)}" if ending else "not a picture: no ending"
    missing = missing_package(ending)
    return f"{ending} needs the package {missing}" if missing else None


def _split_folders(folder: str, names: list[str]) -> dict[str, str]:
    """Returns the split of each folder that is named like one."""
    found: dict[str, str] = {}
    for first in dict.fromkeys(name.partition("/")[0] for name in names if "/" in name):
        split = _SPLIT_OF.get(first.lower())
        if split is None:
            continue
        other = next((known for known, of in found.items() if of == split), None)
        if other:
            raise DataError(f"{folder} has both {other}/ and {first}/ for the split {split}: put all into {split}/.")
        found[first] = split
    return found


def _in_splits(folder: str, names: list[str], folders: dict[str, str]) -> tuple[list[Item], list[LeftOut]]:
    pictures, outside = [], []
    for name in names:
        first, *rest = name.split("/")
        split = folders.get(first)
        if split is None or not rest:
            outside.append(LeftOut("outside of unlabelled/, train/ and test/", printable(name)))
        elif split == splits.UNLABELLED:
            pictures.append(Item(name, split))
        elif len(rest) == 1:
            raise DataError(
                f"{folder}/{printable(name)} is not in the folder of a class: labelled pictures belong in "
                f"{first}/CLASS/."
            )
        else:
            pictures.append(Item(name, split, _class_name(folder, rest[0])))
    return pictures, outside


def _without_splits(name: str, classes_are_folders: bool) -> Item:
    first, _, rest = name.partition("/")
    if classes_are_folders and rest:
        return Item(name, None, _class_name("", first))
    return Item(name, splits.UNLABELLED)


def _with_labels(folder: str, names: list[str], labels: Mapping[str, Row]) -> list[Item]:
    for first, split in _split_folders(folder, names).items():
        if split != splits.UNLABELLED:
            raise DataError(
                f"{folder} has both {LABELS_FILE} and the folder {first}/: keep the one that says which class a "
                "picture has."
            )
    known = set(names)
    missing = [name for name in labels if name not in known]
    if missing:
        raise DataError(
            f"{folder}/{LABELS_FILE} has labels for {len(missing)} files that are not pictures of the folder, such as "
            f"{printable(missing[0])}: correct their paths, which are relative to the folder, or remove these lines."
        )
    pictures = []
    for name in names:
        row = labels.get(name)
        if row is None or not row.label:
            pictures.append(Item(name, splits.UNLABELLED))
        else:
            in_split = _split_of_row(folder, row)
            labelled = in_split != splits.UNLABELLED
            pictures.append(Item(name, in_split, _class_name(folder, row.label) if labelled else None))
    return pictures


def _split_of_row(folder: str, row: Row) -> str | None:
    if row.split and row.split.lower() not in _SPLIT_OF:
        raise DataError(
            f"{folder}/{LABELS_FILE}, line {row.line}: the split {row.split!r} is unknown; write "
            f"{', '.join(splits.SPLITS)}, or leave it empty."
        )
    return _SPLIT_OF.get(row.split.lower())


def _class_name(folder: str, name: str) -> str:
    # Two spellings of one name in Unicode, from a Mac and from Linux, are one class.
    normal = unicodedata.normalize("NFC", _decoded(name))
    if not normal.isprintable():
        raise DataError(
            f"{folder} has the class {normal!r}, whose name has a line break or another control character: rename it."
        )
    return normal


def _require_no_splits_below(folder: str, names: list[str]) -> None:
    for name in names:
        parts = name.split("/")
        if len(parts) > 2 and parts[1].lower() in _SPLIT_OF:
            raise DataError(f"{folder} has no split folders, but {folder}/{parts[0]} has: name that folder instead.")
