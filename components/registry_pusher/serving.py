"""A folder that TensorFlow Serving watches: `DIR/VERSION/` holds a SavedModel, and the highest version is served.

A version is there as a whole or not at all. On a disk it is copied aside, under a name that Serving does not take for a
version, and renamed. Cloud Storage renames no folders; there `saved_model.pb`, without which no folder is a
SavedModel, is uploaded last and deleted first.
"""

import os
import posixpath
import tempfile
from pathlib import Path

from fsspec.core import url_to_fs

from components.model_registry import ModelRegistry, contents
from trainer import aside

_MARK = "saved_model.pb"
# Of the registered model: the folder that Serving watches.
_TAG = "serving_directory"


def watch(registry: ModelRegistry, name: str, directory: str) -> None:
    """Notes where TensorFlow Serving looks for a registered model."""
    if registry.tag(name, _TAG) != directory:
        registry.set_tag(name, _TAG, directory)


def serve_champion(registry: ModelRegistry, name: str, alias: str) -> str | None:
    """Publishes the champion where TensorFlow Serving looks, if the registered model has a place; returns it."""
    directory = registry.tag(name, _TAG)
    champion = registry.aliased(name, alias)
    if not directory or not champion:
        return None
    if not is_published(directory, champion.version):
        with tempfile.TemporaryDirectory() as download:
            folder = registry.download(champion, download)
            publish(folder / contents.SAVED_MODEL, directory, champion.version)
    withdraw_above(directory, champion.version)
    return place_of(directory, champion.version)


def is_published(directory: str, version: int) -> bool:
    """Whether a version is there as a whole."""
    files, root = _opened(directory)
    return files.exists(posixpath.join(root, str(version), _MARK))


def publish(saved_model: Path, directory: str, version: int) -> str:
    """Adds a version; returns its folder.

    Args:
        saved_model: local.
        directory: local folder or `gs://` URI.
        version: number of the version.
    """
    files, root = _opened(directory)
    files.makedirs(root, exist_ok=True)
    place = posixpath.join(root, str(version))
    aside.remove_abandoned(files, root)
    if _renames(files):
        unfinished = aside.beside(place)
        _copy(files, saved_model, unfinished)
        try:
            os.rename(unfinished, place)
        except OSError:
            files.rm(unfinished, recursive=True)
            # Another process may have published the same version first.
            if not is_published(directory, version):
                raise
    else:
        _copy(files, saved_model, place)
    return place_of(directory, version)


def place_of(directory: str, version: int) -> str:
    """The folder of a version."""
    return f"{directory.rstrip('/')}/{version}"


def withdraw_above(directory: str, version: int) -> None:
    """Takes away every higher version, so that Serving goes back to this one."""
    files, root = _opened(directory)
    for name in sorted(posixpath.basename(path.rstrip("/")) for path in files.ls(root, detail=False)):
        if name.isdigit() and int(name) > version:
            _withdraw(files, posixpath.join(root, name))


def _withdraw(files, place: str) -> None:
    try:
        if _renames(files):
            withdrawn = aside.beside(place)
            os.rename(place, withdrawn)
            place = withdrawn
        elif files.exists(posixpath.join(place, _MARK)):
            files.rm(posixpath.join(place, _MARK))
        files.rm(place, recursive=True)
    except FileNotFoundError:
        # Another process withdraws the same version.
        return


def _opened(directory: str):
    files, root = url_to_fs(directory.rstrip("/"))
    # Others write there as well.
    files.invalidate_cache()
    return files, root


def _copy(files, saved_model: Path, place: str) -> None:
    paths = sorted(path for path in saved_model.rglob("*") if path.is_file())
    for path in sorted(paths, key=lambda path: path.name == _MARK):
        target = posixpath.join(place, path.relative_to(saved_model).as_posix())
        files.makedirs(posixpath.dirname(target), exist_ok=True)
        files.put_file(str(path), target)


def _renames(files) -> bool:
    """Whether a folder is renamed in one step."""
    return "file" in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,))
