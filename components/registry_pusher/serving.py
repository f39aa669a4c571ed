"""A folder that TensorFlow Serving watches: `DIR/VERSION/` holds a SavedModel, and the highest version is served.

A version is either complete or absent. On a disk it is copied under a name that Serving does not take for a version,
and then renamed. A bucket renames no folders; there `saved_model.pb`, without which a folder is no SavedModel, is
uploaded last and deleted first.

A file in each version names the registered model that published it. Versions of another registered model or of another
tool are never replaced or deleted: a folder that holds any is refused.
"""

import json
import os
import posixpath
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.model_registry import SERVING_DIRECTORY, ModelRegistry, Version, contents
from trainer import aside, storage
from trainer.errors import SettingsError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# The file without which TensorFlow Serving does not take a folder for a SavedModel.
_SAVED_MODEL_FILE = "saved_model.pb"
_OWNER_FILE = "nnclr-release.json"
_MOST_VERSIONS_SHOWN = 5


@dataclass(frozen=True)
class Published:
    """The origin of a version in the folder.

    Attributes:
        model: The name of the registered model.
        model_created: The time at which the registered model was created, in ms since 1970. It distinguishes
            registries.
        version: The version's number.
        sha256: The sha256 of the version's manifest.
    """

    model: str
    model_created: int
    version: int
    sha256: str

    @classmethod
    def of(cls, registry: ModelRegistry, version: Version) -> "Published":
        """Returns the origin that a version of a registry has when it is published."""
        return cls(version.name, registry.created_ms(version.name) or 0, version.version, version.sha256)

    def is_of_same_model(self, other: "Published | None") -> bool:
        """Returns whether both come from the same registered model of the same registry."""
        return other is not None and (self.model, self.model_created) == (other.model, other.model_created)


def require_usable(registry: ModelRegistry, name: str, directory: str) -> None:
    """Demands that a folder can be written to, and that the registered model published all versions in it.

    Args:
        registry: The registry that holds the model, or will hold it.
        name: The name of the registered model.
        directory: A local folder, which is created if it does not exist, or a URI.

    Raises:
        SettingsError: If the folder cannot be written to, or holds versions that others published.
    """
    try:
        files, root = _open_folder(directory)
        trial = aside.beside(posixpath.join(root, "trial"))
        files.pipe_file(trial, b"")
        files.rm_file(trial)
        paths = {number: posixpath.join(root, str(number)) for number in _version_numbers(files, root)}
        # A folder without a SavedModel is no version, but the rest of one that is being withdrawn.
        owners = {
            number: _read_owner(files, path)
            for number, path in paths.items()
            if files.exists(posixpath.join(path, _SAVED_MODEL_FILE))
        }
    except Exception as error:
        reason = storage.failure(error, directory)
        # fsspec does not know the protocol of the URI, or lacks the package for it.
        if reason is None and not isinstance(error, ValueError | ImportError):
            raise
        raise SettingsError(
            f"registry.serving_directory {directory} cannot be written to: {reason or error}."
        ) from error
    ours = Published(name, registry.created_ms(name) or 0, 0, "")
    foreign = [str(number) for number, owner in sorted(owners.items()) if not ours.is_of_same_model(owner)]
    if foreign:
        hidden = len(foreign) - _MOST_VERSIONS_SHOWN
        more = f" and {hidden} more" if hidden > 0 else ""
        raise SettingsError(
            f"registry.serving_directory {directory} holds the versions {', '.join(foreign[:_MOST_VERSIONS_SHOWN])}"
            f"{more}, which the registered model {name} of this registry did not publish: name a folder of its own, or "
            "empty this one."
        )


def record_folder(registry: ModelRegistry, name: str, directory: str) -> None:
    """Records the folder that TensorFlow Serving watches for a registered model."""
    if registry.tag(name, SERVING_DIRECTORY) != directory:
        registry.set_tag(name, SERVING_DIRECTORY, directory)


def require_watched_folder_usable(registry: ModelRegistry, name: str) -> None:
    """Demands that the folder which TensorFlow Serving watches for a registered model is usable, if there is one.

    Raises:
        SettingsError: If the folder cannot be written to, or holds versions that others published.
    """
    directory = registry.tag(name, SERVING_DIRECTORY)
    if directory:
        require_usable(registry, name, directory)


def serve_champion(registry: ModelRegistry, name: str, alias: str) -> str | None:
    """Publishes the champion in the folder that TensorFlow Serving watches, and withdraws all higher versions.

    Returns:
        The champion's folder; None if Serving watches no folder for the registered model, or there is no champion.

    Raises:
        DamagedVersion: If the champion's files differ from those that were registered.
        SettingsError: If the folder cannot be written to, or holds versions that others published.
    """
    directory = registry.tag(name, SERVING_DIRECTORY)
    champion = registry.aliased(name, alias)
    if not directory or not champion:
        return None
    require_usable(registry, name, directory)
    version = Published.of(registry, champion)
    if not is_published(directory, version):
        with tempfile.TemporaryDirectory() as download:
            folder = registry.download(champion, download)
            publish(folder / contents.SAVED_MODEL, directory, version)
    withdraw_above(directory, version)
    return version_folder(directory, champion.version)


def is_published(directory: str, version: Published) -> bool:
    """Returns whether the folder holds a version completely, and from this origin."""
    files, root = _open_folder(directory)
    path = posixpath.join(root, str(version.version))
    return files.exists(posixpath.join(path, _SAVED_MODEL_FILE)) and _read_owner(files, path) == version


def publish(saved_model: Path, directory: str, version: Published) -> str:
    """Adds a version to the folder, or replaces the one of the same number and model; returns the version's folder.

    Args:
        saved_model: The local folder of the SavedModel.
        directory: The watched folder, a local path or a URI.
        version: The version's origin.
    """
    files, root = _open_folder(directory)
    path = posixpath.join(root, str(version.version))
    aside.remove_abandoned(files, root)
    outdated = files.exists(path) and not is_published(directory, version)
    if _renames_folders(files):
        unfinished = aside.beside(path)
        try:
            _copy(files, saved_model, unfinished, version)
            if outdated:
                _withdraw(files, path)
            os.rename(unfinished, path)
        except OSError:
            if files.exists(unfinished):
                files.rm(unfinished, recursive=True)
            # Another process may have published the same version first.
            if not is_published(directory, version):
                raise
    else:
        if outdated:
            _withdraw(files, path)
        _copy(files, saved_model, path, version)
    return version_folder(directory, version.version)


def version_folder(directory: str, version: int) -> str:
    """Returns the path or URI of a version's folder."""
    return f"{directory.rstrip('/')}/{version}"


def withdraw_above(directory: str, version: Published) -> None:
    """Deletes every higher version of the same model, so that TensorFlow Serving returns to this version."""
    files, root = _open_folder(directory)
    for number in _version_numbers(files, root):
        path = posixpath.join(root, str(number))
        if number > version.version and version.is_of_same_model(_read_owner(files, path)):
            _withdraw(files, path)


def _open_folder(directory: str) -> tuple["AbstractFileSystem", str]:
    """Returns the file system of a folder, and the folder's path in it."""
    return storage.located(directory.rstrip("/"))


def _version_numbers(files: "AbstractFileSystem", root: str) -> list[int]:
    # In an object store, an empty folder does not exist.
    paths = files.ls(root, detail=False) if files.exists(root) else []
    names = [posixpath.basename(path.rstrip("/")) for path in paths]
    return sorted(int(name) for name in names if name.isdecimal())


def _read_owner(files: "AbstractFileSystem", path: str) -> Published | None:
    """Returns a version's origin from its owner file; None if the file is missing or cannot be read."""
    try:
        return Published(**json.loads(files.cat_file(posixpath.join(path, _OWNER_FILE))))
    except (FileNotFoundError, TypeError, ValueError):
        return None


def _withdraw(files: "AbstractFileSystem", path: str) -> None:
    try:
        if _renames_folders(files):
            withdrawn = aside.beside(path)
            os.rename(path, withdrawn)
            path = withdrawn
        elif files.exists(posixpath.join(path, _SAVED_MODEL_FILE)):
            files.rm(posixpath.join(path, _SAVED_MODEL_FILE))
        files.rm(path, recursive=True)
    except FileNotFoundError:
        # Another process is withdrawing the same version.
        return


def _copy(files: "AbstractFileSystem", saved_model: Path, path: str, version: Published) -> None:
    """Copies a SavedModel and its owner file, `saved_model.pb` last."""
    files.pipe_file(posixpath.join(path, _OWNER_FILE), json.dumps(asdict(version), indent=2).encode())
    sources = sorted(source for source in saved_model.rglob("*") if source.is_file())
    for source in sorted(sources, key=lambda source: source.name == _SAVED_MODEL_FILE):
        target = posixpath.join(path, source.relative_to(saved_model).as_posix())
        files.put_file(str(source), target)


def _renames_folders(files: "AbstractFileSystem") -> bool:
    """Returns whether the file system is a local one, which renames a folder in one step."""
    return "file" in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,))
