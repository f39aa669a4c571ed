"""The object store of an installation, as the launcher uses it: keys with contents, and no folders.

Sources: `UploadBlob` and `DownloadBlob` in backend/src/v2/objectstore/object_store.go.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Storage:
    """Buckets, whose objects are files below `root`."""

    root: Path

    def path(self, uri: str) -> Path:
        """Returns where an artifact's objects are kept."""
        scheme, _, key = uri.partition("://")
        return self.root / scheme / key

    def upload(self, source: Path, uri: str) -> list[str]:
        """Stores a file, or the files of a folder, and returns their keys. A folder without files leaves no trace.

        Objects that an earlier try of the task has left behind stay, unless they have the same key.

        Raises:
            FileNotFoundError: There is nothing to store.
        """
        if not source.exists():
            raise FileNotFoundError(source)
        keys = []
        for file in [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file()):
            key = uri if source.is_file() else f"{uri}/{file.relative_to(source)}"
            place = self.path(key)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
            keys.append(key)
        return keys

    def download(self, uri: str, place: Path) -> None:
        """Fetches all objects whose key starts with an artifact's URI, also those of `model_run` for `model`."""
        artifact = self.path(uri)
        for file in self._starting_with(artifact):
            suffix = str(file).removeprefix(str(artifact))
            local = Path(f"{place}{suffix}")
            local.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, local)

    @staticmethod
    def _starting_with(path: Path) -> Iterator[Path]:
        for found in sorted(path.parent.glob("*")):
            if found.name.startswith(path.name):
                yield from [found] if found.is_file() else sorted(one for one in found.rglob("*") if one.is_file())
