"""Recognises which kind of source lies at a path, and opens it."""

from components.image_example_gen.sources import files
from components.image_example_gen.sources.base import Source, StoredSource
from components.image_example_gen.sources.image_folder import ImageFolder
from components.image_example_gen.sources.labelled_only import LabelledOnly
from components.image_example_gen.sources.stl10_archive import Stl10Archive
from components.image_example_gen.sources.stl10_directory import Stl10Directory
from components.image_example_gen.sources.tfds_stl10 import TfdsStl10
from trainer import splits, storage
from trainer.errors import DataError

# The known kinds of sources. The first that recognises a path opens it.
SOURCES: tuple[type[StoredSource], ...] = (Stl10Archive, Stl10Directory, TfdsStl10, ImageFolder)


def known_sources() -> str:
    """Lists the known kinds of sources in a phrase, for the help, the settings and messages."""
    *others, last = (source.description for source in SOURCES)
    return f"{'; '.join(others)}; or {last}"


def open_source(path: str) -> Source:
    """Opens the images at `path`, a local path or a URI, for pretraining.

    Raises:
        DataError: If nothing lies at the path, if it is no known kind of source, if the source is damaged, or if it has
            no unlabelled images.
    """
    source = _open(path)
    source.require_unlabelled()
    return source


def open_labelled(path: str) -> Source:
    """Opens the labelled images at `path`, a local path or a URI, for the evaluation.

    Raises:
        DataError: If nothing lies at the path, if it is no known kind of source, if the source is damaged, or if it has
            no labelled images.
    """
    source = _open(path)
    source.require_labelled()
    return LabelledOnly(source)


def _open(path: str) -> StoredSource:
    path = path.rstrip("/")
    if "://" in path and not storage.in_bucket(path):
        raise DataError(
            f"{path} cannot be read: images are ingested from a local path, {' or '.join(storage.BUCKETS)}. Download "
            "them first (STL-10: nnclr data stl10 DIRECTORY)."
        )
    listing = files.listing(path)
    if not listing.files and not listing.problems:
        raise DataError(f"{path} does not exist or is empty.")
    names = listing.files.keys() - {""}
    for source in SOURCES:
        if source.recognises(path, names):
            return source(path, listing)
    american = any(name.startswith("unlabeled/") for name in names)
    hint = f"; rename its folder `unlabeled` to `{splits.UNLABELLED}`" if american else ""
    raise DataError(f"{path} is not a known source of images{hint}. Known sources are: {known_sources()}.")
