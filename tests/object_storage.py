"""A real S3 API on loopback: SeaweedFS."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

#: What its clients are configured with. The server accepts any key.
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}
_SERVICES = ("master", "volume", "filer", "s3")


@contextmanager
def running() -> Iterator[str]:
    """Starts SeaweedFS without buckets and yields its address."""
    with tempfile.TemporaryDirectory() as folder:
        ports = _free_ports(2 * len(_SERVICES))
        options = [f"-{name}.port{kind}={ports.pop()}" for name in _SERVICES for kind in (".grpc", "")]
        (s3,) = (option.partition("=")[2] for option in options if option.startswith("-s3.port="))
        log = Path(folder) / "log"
        with open(log, "w") as out:
            server = subprocess.Popen(
                [
                    *(Path(sys.executable).with_name("weed"), "server", f"-dir={folder}", *options),
                    *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-master.volumeSizeLimitMB=256"),
                    # Each bucket takes several volumes.
                    "-volume.max=100",
                    # Services that no test uses.
                    *("-s3.port.iceberg=0", "-s3.port.lance=0"),
                ],
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        url = f"http://127.0.0.1:{s3}"
        try:
            deadline = time.monotonic() + 120
            # It accepts connections seconds before it can store anything.
            while not _stores(url):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield url
        finally:
            # An orderly end takes it 25 seconds, and nothing is to be kept.
            server.kill()
            server.wait()


def client(url: str) -> Any:
    """Returns a client for the server at an address."""
    access, secret, region = ENVIRONMENT.values()
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        region_name=region,
        config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=60),
    )


def create_bucket(url: str, name: str) -> None:
    """Creates a bucket unless there is one of this name."""
    with suppress(ClientError):
        client(url).create_bucket(Bucket=name)


def _stores(url: str) -> bool:
    try:
        s3 = client(url)
        s3.create_bucket(Bucket="started")
        s3.put_object(Bucket="started", Key="key", Body=b"content")
        s3.delete_object(Bucket="started", Key="key")
        s3.delete_bucket(Bucket="started")
    except (BotoCoreError, ClientError):
        return False
    return True


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
