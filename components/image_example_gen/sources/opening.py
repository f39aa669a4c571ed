"""Recognises which kind of source lies at a path, and opens it."""

from collections.abc import Set
from importlib import metadata

from components.image_example_gen.config import IngestSettings
from components.image_example_gen.sources import files, span_window
from components.image_example_gen.sources.base import Source, StoredSource
from components.image_example_gen.sources.image_folder import ImageFolder
from components.image_example_gen.sources.labelled_only import LabelledOnly
from components.image_example_gen.sources.picture_formats import ENDINGS
from components.image_example_gen.sources.span_window import SpanWindow
from components.image_example_gen.sources.stl10_archive import Stl10Archive
from components.image_example_gen.sources.stl10_directory import Stl10Directory
from components.image_example_gen.sources.tfds_stl10 import TfdsStl10
from components.image_example_gen.sources.tfrecords import TfRecords
from trainer import splits, storage
from trainer.errors import DataError, SettingsError

#: The built-in kinds of sources. The first that recognises a path opens it.
SOURCES: tuple[type[StoredSource], ...] = (Stl10Archive, Stl10Directory, TfdsStl10, TfRecords, ImageFolder)
#: The group of entry points that declare further kinds, which come first: see `StoredSource`.
ENTRY_POINTS = "nnclr.sources"


def known_sources() -> str:
    """Lists the known kinds of sources in a phrase, for the help, the settings and messages."""
    *others, last = (source.description for source in SOURCES)
    return f"{'; '.join(others)}; or {last}"


def open_source(path: str, settings: IngestSettings = IngestSettings()) -> Source:
    """Opens the images at `path`, a local path or a URI, for pretraining.

    Args:
        path: Path or URI of the images, or of several spans, see `span_window.joined`.
        settings: How labelled images are divided, and which are left out.

    Raises:
        DataError: If nothing lies at the path, if it is no known kind of source, if the source is damaged, or if it has
            no unlabelled images.
        SettingsError: If the path is empty, or if the source cannot leave out what `settings.exclude` lists.
    """
    spans = [_able_to_exclude(_open(span, settings), settings) for span in span_window.paths(path)]
    # An increment may hold only labelled images, if an earlier one holds others.
    (spans[0] if len(spans) == 1 else max(spans, key=_unlabelled_count)).require_unlabelled()
    return spans[0] if len(spans) == 1 else SpanWindow(spans)


def open_labelled(path: str, settings: IngestSettings = IngestSettings()) -> Source:
    """Opens the labelled images at `path`, a local path or a URI, for the evaluation.

    Args:
        path: Path or URI of the images.
        settings: How labelled images are divided, and which are left out.

    Raises:
        DataError: If nothing lies at the path, if it is no known kind of source, if the source is damaged, or if it has
            no labelled images.
        SettingsError: If the path is empty.
    """
    source = _open(path, settings)
    source.require_labelled()
    return LabelledOnly(source)


def open_all(path: str, settings: IngestSettings = IngestSettings()) -> Source:
    """Opens the images of all splits at `path`, a local path or a URI. Any split may be empty, but not all.

    Args:
        path: Path or URI of the images.
        settings: How labelled images are divided, and which are left out.

    Raises:
        DataError: If nothing lies at the path, if it is no known kind of source, if the source is damaged, or if it has
            no images.
        SettingsError: If the path is empty, or if the source cannot leave out what `settings.exclude` lists.
    """
    source = _able_to_exclude(_open(path, settings), settings)
    if not any(source.counts.values()):
        raise DataError(f"{path} has no images.")
    return source


def _unlabelled_count(source: Source) -> int:
    return source.counts[splits.UNLABELLED]


def _open(path: str, settings: IngestSettings) -> StoredSource:
    if not path:
        # Without this check, all files of the machine would be listed.
        raise SettingsError("The source of images is missing: set data.source.")
    path = path.rstrip("/") or "/"
    if "://" in path and not storage.in_bucket(path):
        raise DataError(
            f"{path} cannot be read: images are ingested from a local path, {' or '.join(storage.BUCKETS)}. Download "
            "them first (STL-10: nnclr data stl10 DIRECTORY)."
        )
    listing = files.listing(path)
    if not listing.files and not listing.problems:
        raise DataError(f"{path} does not exist or is empty.")
    names = listing.files.keys() - {""}
    declared = [point.load() for point in metadata.entry_points(group=ENTRY_POINTS)]
    for source in (*declared, *SOURCES):
        if source.recognises(path, names):
            return source(path, listing, settings)
    raise DataError(
        f"{path} is not a known source of images{_hint(path, names)}. Known sources are: {known_sources()}."
    )


def _able_to_exclude(source: StoredSource, settings: IngestSettings) -> StoredSource:
    if settings.exclude and not source.takes_exclude:
        raise SettingsError(
            f"data.exclude leaves out files of a folder of pictures, but {source.path} is {source.description}: remove "
            "data.exclude, or extract the pictures into a folder."
        )
    return source


def _hint(path: str, names: Set[str]) -> str:
    """Returns what the user may have meant, as the continuation of a sentence."""
    if path.lower().endswith(ENDINGS):
        return ": it is a single picture; name the folder that contains it"
    for folder in dict.fromkeys(name.partition("/")[0] for name in names if "/" in name):
        below = {name.removeprefix(f"{folder}/") for name in names if name.startswith(f"{folder}/")}
        if any(source.recognises(f"{path}/{folder}", below) for source in SOURCES):
            return f", but {path}/{folder} is: name that folder instead"
    return ""
