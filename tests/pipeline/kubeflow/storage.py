"""The object store of an installation, as the launcher uses it: keys with contents, and no folders.

Sources: `UploadBlob` and `DownloadBlob` in backend/src/v2/objectstore/object_store.go.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests import object_storage

#: The one of the installation, and another one.
BUCKETS = ("mlpipeline", "bucket")


class Storage:
    """Buckets on a new SeaweedFS, whatever the scheme of their URIs.

    Args:
        url: The server's address.
    """

    def __init__(self, url: str):
        self._s3: Any = object_storage.client(url)
        for bucket in BUCKETS:
            self._s3.create_bucket(Bucket=bucket)

    def upload(self, source: Path, uri: str) -> list[str]:
        """Stores a file, or the files of a folder, and returns their URIs. A folder without files leaves no trace.

        Objects that an earlier try of the task has left behind stay, unless they have the same key.

        Raises:
            FileNotFoundError: There is nothing to store.
        """
        if not source.exists():
            raise FileNotFoundError(source)
        uris = []
        for file in [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file()):
            uris.append(uri if source.is_file() else f"{uri}/{file.relative_to(source)}")
            bucket, key = self._parts(uris[-1])
            self._s3.upload_file(str(file), bucket, key)
        return uris

    def download(self, uri: str, place: Path) -> None:
        """Fetches all objects whose key starts with an artifact's URI, also those of `model_run` for `model`."""
        bucket, prefix = self._parts(uri)
        for key in self._keys(bucket, prefix):
            local = Path(f"{place}{key.removeprefix(prefix)}")
            local.parent.mkdir(parents=True, exist_ok=True)
            self._s3.download_file(bucket, key, str(local))

    def read(self, uri: str) -> str:
        """Returns the text of an object."""
        bucket, key = self._parts(uri)
        return self._s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()

    def names(self, uri: str) -> list[str]:
        """Returns the keys below a URI, relative to it."""
        bucket, prefix = self._parts(f"{uri}/")
        return [key.removeprefix(prefix) for key in self._keys(bucket, prefix)]

    def _keys(self, bucket: str, prefix: str) -> Iterator[str]:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            yield from (found["Key"] for found in page.get("Contents", ()))

    @staticmethod
    def _parts(uri: str) -> tuple[str, str]:
        bucket, _, key = uri.partition("://")[2].partition("/")
        return bucket, key
