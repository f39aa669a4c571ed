"""A folder that TensorFlow Serving watches: `DIR/VERSION/` holds a SavedModel, and the highest version is served.

A version is there as a whole or not at all. On a disk it is copied aside, under a name that Serving does not take for a
version, and renamed. Cloud Storage renames no folders; there `saved_model.pb`, without which no folder is a
SavedModel, is uploaded last and deleted first.

A file in each version says which registered model published it. Versions that another one published, or another tool,
are never replaced or deleted: such a folder is refused.
"""

import json
import os
import posixpath
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from fsspec.core import url_to_fs

from components.model_registry import SERVING_DIRECTORY, ModelRegistry, Version, contents
from trainer import aside
from trainer.errors import SettingsError

_MARK = "saved_model.pb"
_OWNER = "nnclr-release.json"
_SHOWN = 5


@dataclass(frozen=True)
class Published:
    """What a version in the folder was published from.

    Attributes:
        model: name of the registered model.
        model_created: time of its creation, which tells registries apart, ms since 1970.
        version: number of its version.
        sha256: of the version's manifest.
    """

    model: str
    model_created: int
    version: int
    sha256: str

    @classmethod
    def of(cls, registry: ModelRegistry, version: Version) -> "Published":
        """A version of a registry."""
        return cls(version.name, registry.created(version.name) or 0, version.version, version.sha256)

    def is_of_same_model(self, other: "Published | None") -> bool:
        """Whether both come from the same registered model of the same registry."""
        return other is not None and (self.model, self.model_created) == (other.model, other.model_created)


def require_usable(registry: ModelRegistry, name: str, directory: str) -> None:
    """Demands a folder that can be written to, and that holds no versions but those of the registered model.

    Args:
        registry: The registry that the model is in, or will be.
        name: The registered model's name.
        directory: A local folder, which is created, or a `gs://` URI.

    Raises:
        SettingsError: it cannot be written to, or holds other versions.
    """
    try:
        files, root = _opened(directory)
        files.makedirs(root, exist_ok=True)
        trial = aside.beside(posixpath.join(root, "trial"))
        files.pipe_file(trial, b"")
        files.rm_file(trial)
        places = {number: posixpath.join(root, str(number)) for number in _numbers(files, root)}
        # Without the mark it is no version: what is left of one that is being withdrawn.
        found = {
            number: _published(files, place)
            for number, place in places.items()
            if files.exists(posixpath.join(place, _MARK))
        }
    except (OSError, ValueError, ImportError) as error:
        raise SettingsError(f"registry.serving_directory {directory} cannot be written to: {error}.") from error
    ours = Published(name, registry.created(name) or 0, 0, "")
    foreign = [str(number) for number, published in sorted(found.items()) if not ours.is_of_same_model(published)]
    if foreign:
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        raise SettingsError(
            f"registry.serving_directory {directory} holds the versions {', '.join(foreign[:_SHOWN])}{more}, which the "
            f"registered model {name} of this registry did not publish: name a folder of its own, or empty this one."
        )


def watch(registry: ModelRegistry, name: str, directory: str) -> None:
    """Notes where TensorFlow Serving looks for a registered model."""
    if registry.tag(name, SERVING_DIRECTORY) != directory:
        registry.set_tag(name, SERVING_DIRECTORY, directory)


def require_watched_folder_usable(registry: ModelRegistry, name: str) -> None:
    """Demands that the folder which Serving watches for a registered model can be used, if there is one.

    Raises:
        SettingsError: see `require_usable`.
    """
    directory = registry.tag(name, SERVING_DIRECTORY)
    if directory:
        require_usable(registry, name, directory)


def serve_champion(registry: ModelRegistry, name: str, alias: str) -> str | None:
    """Publishes the champion where TensorFlow Serving looks, if the registered model has a place; returns it."""
    directory = registry.tag(name, SERVING_DIRECTORY)
    champion = registry.aliased(name, alias)
    if not directory or not champion:
        return None
    require_usable(registry, name, directory)
    wanted = Published.of(registry, champion)
    if not is_published(directory, wanted):
        with tempfile.TemporaryDirectory() as download:
            folder = registry.download(champion, download)
            publish(folder / contents.SAVED_MODEL, directory, wanted)
    withdraw_above(directory, wanted)
    return place_of(directory, champion.version)


def is_published(directory: str, wanted: Published) -> bool:
    """Whether a version is there as a whole."""
    files, root = _opened(directory)
    place = posixpath.join(root, str(wanted.version))
    return files.exists(posixpath.join(place, _MARK)) and _published(files, place) == wanted


def publish(saved_model: Path, directory: str, version: Published) -> str:
    """Adds a version, in place of one of the same number and model; returns its folder.

    Args:
        saved_model: local.
        directory: local folder or `gs://` URI.
        version: what is published.
    """
    files, root = _opened(directory)
    files.makedirs(root, exist_ok=True)
    place = posixpath.join(root, str(version.version))
    aside.remove_abandoned(files, root)
    outdated = files.exists(place) and not is_published(directory, version)
    if _renames(files):
        unfinished = aside.beside(place)
        try:
            _copy(files, saved_model, unfinished, version)
            if outdated:
                _withdraw(files, place)
            os.rename(unfinished, place)
        except OSError:
            if files.exists(unfinished):
                files.rm(unfinished, recursive=True)
            # Another process may have published the same version first.
            if not is_published(directory, version):
                raise
    else:
        if outdated:
            _withdraw(files, place)
        _copy(files, saved_model, place, version)
    return place_of(directory, version.version)


def place_of(directory: str, version: int) -> str:
    """The folder of a version."""
    return f"{directory.rstrip('/')}/{version}"


def withdraw_above(directory: str, version: Published) -> None:
    """Takes away every higher version of the same model, so that Serving goes back to this one."""
    files, root = _opened(directory)
    for number in _numbers(files, root):
        place = posixpath.join(root, str(number))
        if number > version.version and version.is_of_same_model(_published(files, place)):
            _withdraw(files, place)


def _numbers(files, root: str) -> list[int]:
    """The numbers of the versions in a folder."""
    # An object store knows no empty folders.
    paths = files.ls(root, detail=False) if files.exists(root) else []
    names = [posixpath.basename(path.rstrip("/")) for path in paths]
    return sorted(int(name) for name in names if name.isdecimal())


def _published(files, place: str) -> Published | None:
    """What a version's owner file says; None if it has none that can be read."""
    try:
        return Published(**json.loads(files.cat_file(posixpath.join(place, _OWNER))))
    except (FileNotFoundError, TypeError, ValueError):
        return None


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


def _copy(files, saved_model: Path, place: str, version: Published) -> None:
    files.makedirs(place, exist_ok=True)
    files.pipe_file(posixpath.join(place, _OWNER), json.dumps(asdict(version), indent=2).encode())
    paths = sorted(path for path in saved_model.rglob("*") if path.is_file())
    for path in sorted(paths, key=lambda path: path.name == _MARK):
        target = posixpath.join(place, path.relative_to(saved_model).as_posix())
        files.makedirs(posixpath.dirname(target), exist_ok=True)
        files.put_file(str(path), target)


def _renames(files) -> bool:
    """Whether a folder is renamed in one step."""
    return "file" in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,))
