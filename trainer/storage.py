"""Files on a local disk, in Cloud Storage (`gs://`) and in S3 (`s3://`): opens them, and explains why that fails."""

import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainer.errors import DataError, SettingsError, UserError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

#: How the URIs of buckets start.
CLOUD, S3 = "gs://", "s3://"
BUCKETS = (CLOUD, S3)

# Each client takes the address of another server than Google's or Amazon's from this variable.
_ENDPOINTS = {CLOUD: "STORAGE_EMULATOR_HOST", S3: "AWS_ENDPOINT_URL"}
_CREDENTIALS = {
    CLOUD: "log in with `gcloud auth application-default login`, or name a key file in GOOGLE_APPLICATION_CREDENTIALS",
    S3: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile in AWS_PROFILE",
}
# Without these limits, a connection that went silent is waited for by gcsfs for five minutes, six times.
_CONNECT_SECONDS, _READ_SECONDS = 10, 30
# botocore tries each request five times, and s3fs tries all that again, five times by default.
_S3_ATTEMPTS = 3
# As many requests at a time as `read_ahead` of the sources makes, and a few more.
_CONNECTIONS = 64
# The packages whose exceptions tell of the storage. gcsfs raises some of its HTTP errors as those of requests.
_CLIENTS = ("aiobotocore", "aiohttp", "botocore", "fsspec", "gcsfs", "google", "requests")
_UNAUTHORISED, _FORBIDDEN = 401, 403
_LONGEST_QUOTE = 300


def in_bucket(path: str) -> bool:
    """Returns whether a path is the URI of something in a bucket that nnclr can read and write."""
    return path.startswith(BUCKETS)


def require_tensorflow(path: str, name: str) -> None:
    """Refuses a place that TensorFlow, which writes and reads records and models, cannot use.

    Args:
        path: Local path or URI.
        name: The argument or setting that names the path.

    Raises:
        SettingsError: If the path is in S3.
    """
    if path.startswith(S3):
        raise SettingsError(
            f"{name} is {path}, but TensorFlow, which reads and writes records and models, has no {S3}: name a local "
            f"folder or a {CLOUD} URI."
        )


def located(path: str) -> tuple["AbstractFileSystem", str]:
    """Returns the file system of a local path or URI, and the path in it.

    All threads of a process share the file system of a kind of bucket. It remembers no listings, because other
    processes write and delete files as well. Folders need not be created: writing a local file creates its folder, and
    a bucket needs none. Nor should they: s3fs then creates a bucket that does not exist, whose name is a mistake.

    Raises:
        SettingsError: If a URI names no bucket.
    """
    scheme = next((scheme for scheme in BUCKETS if path.startswith(scheme)), None)
    if scheme is None:
        from fsspec.core import url_to_fs

        return url_to_fs(path, **({} if "://" in path else {"auto_mkdir": True}))
    if not path.removeprefix(scheme).partition("/")[0]:
        raise SettingsError(f"{path} names no bucket: write {scheme}BUCKET/FOLDER.")
    files = _connected(scheme, os.environ.get(_ENDPOINTS[scheme]), os.getpid())
    return files, files._strip_protocol(path)


@functools.cache
def _connected(scheme: str, endpoint: str | None, process: int) -> "AbstractFileSystem":
    """Connects once in each process, because a forked process cannot use the connections of its parent."""
    if scheme == S3:
        from s3fs import S3FileSystem

        limits = {"connect_timeout": _CONNECT_SECONDS, "read_timeout": _READ_SECONDS}
        files = S3FileSystem(
            endpoint_url=endpoint,
            use_listings_cache=False,
            skip_instance_cache=True,
            config_kwargs={**limits, "max_pool_connections": _CONNECTIONS},
        )
        files.retries = _S3_ATTEMPTS
        return files
    from aiohttp import ClientTimeout

    # The class that gcsfs registers asks for the type of each bucket by gRPC, and waits a minute if nobody answers.
    from gcsfs.core import GCSFileSystem

    # It logs each failed request with a stack trace before it raises the error, which says the same.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    return GCSFileSystem(
        token="anon" if endpoint else _google_token(),
        requests_timeout=ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS),
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def _google_token() -> str:
    """Chooses how gcsfs authenticates: by Google's application default credentials or, without any, anonymously.

    By default gcsfs would ask the metadata server of a machine in Google Cloud several times, for 15 seconds.
    """
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    try:
        google.auth.default()
    except DefaultCredentialsError:
        if "GOOGLE_APPLICATION_CREDENTIALS" in os.environ:
            raise
        return "anon"
    return "google_default"


@contextmanager
def explained(path: str, kind: type[UserError] = DataError) -> Iterator[None]:
    """Turns every error of the storage inside the `with` block into one sentence.

    Errors that may pass (a server's error, a timeout, a reset connection) have been retried by the clients of the
    buckets before they raise them.

    Args:
        path: Local path or URI of what is read or written.
        kind: Class of the error to raise.

    Raises:
        UserError: Of the class `kind`, if the storage fails.
    """
    try:
        yield
    except Exception as error:
        reason = failure(error, path)
        if reason is None:
            raise
        raise kind(f"{path} cannot be used: {reason}.") from error


def failure(error: BaseException, path: str) -> str | None:
    """Says in a clause why the storage failed, and what to do.

    Args:
        error: What was raised.
        path: Local path or URI of what was read or written.

    Returns:
        The clause without a full stop; None if the error does not come from the storage.
    """
    if not _is_of_storage(error):
        return None
    scheme = next((scheme for scheme in BUCKETS if path.startswith(scheme)), None)
    if scheme:
        return _failure_in_bucket(error, scheme, path.removeprefix(scheme).partition("/")[0])
    return (error.strerror if isinstance(error, OSError) else None) or _quoted(error)


def _is_of_storage(error: BaseException) -> bool:
    if isinstance(error, ValueError):
        # gcsfs raises this if Google calls a request invalid, for instance because of the bucket's name.
        return str(error).startswith("Bad Request: ") or type(error).__module__.startswith("botocore")
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _CLIENTS


def _failure_in_bucket(error: BaseException, scheme: str, bucket: str) -> str:
    status = getattr(error, "code", None)
    if isinstance(error, FileNotFoundError):
        return f"there is no bucket {bucket}{_endpoint(scheme)}: check its name"
    if status == _UNAUTHORISED or type(error).__name__ in ("NoCredentialsError", "DefaultCredentialsError"):
        return f"no valid credentials were found ({_quoted(error)}): {_CREDENTIALS[scheme]}"
    if isinstance(error, PermissionError) or status == _FORBIDDEN or str(error).startswith("Forbidden: "):
        return (
            f"the credentials do not permit it ({_quoted(error)}): permit their owner to use the bucket {bucket}, or "
            f"choose others: {_CREDENTIALS[scheme]}"
        )
    if isinstance(error, ValueError) or type(error).__name__ == "ParamValidationError":
        return f"{_quoted(error)}: check the name"
    return f"the storage{_endpoint(scheme)} failed and kept failing ({_quoted(error)}): try again when it answers"


def _endpoint(scheme: str) -> str:
    variable = _ENDPOINTS[scheme]
    return f" at {os.environ[variable]} ({variable})" if os.environ.get(variable) else ""


def _quoted(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:_LONGEST_QUOTE].rstrip(".")
