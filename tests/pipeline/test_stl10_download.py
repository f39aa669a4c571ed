"""The download against a real HTTP server that misbehaves."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import stl10_download
from pipeline.data.stl10_download import Archive, download
from trainer.errors import DataError, UserError

CONTENT = np.random.default_rng(0).bytes(3_000_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; breaks off after each number of bytes in `cuts` before it serves whole."""

    content = CONTENT
    cuts: list[int]
    honours_range = True
    announces_length = True
    requests: list[str | None]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.honours_range else 0
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            total = len(self.server.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if self.server.announces_length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[: self.server.cuts.pop(0)] if self.server.cuts else body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as served:
        served.cuts, served.requests = [], []
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def archive(server: Server) -> Archive:
    url = f"http://127.0.0.1:{server.server_port}/stl10_binary.tar.gz"
    return Archive(url, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def test_whole_download_gets_its_name_and_is_not_repeated(server, tmp_path):
    seen = []
    file = download(archive(server), tmp_path / "new" / "folder", seen.append)
    assert file.read_bytes() == CONTENT
    assert seen == sorted(seen)
    assert seen[-1] == len(CONTENT)
    assert [path.name for path in file.parent.iterdir()] == ["stl10_binary.tar.gz"]
    assert download(archive(server), file.parent) == file
    assert len(server.requests) == 1


def test_goes_on_where_the_server_broke_off(server, tmp_path):
    server.cuts = [1_000_000, 500_000]
    file = download(archive(server), tmp_path, pause_seconds=0)
    assert file.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000000-", "bytes=1500000-"]


def test_goes_on_in_a_later_process(server, tmp_path):
    server.cuts = [100_000] * 5
    with pytest.raises(UserError, match=r"failed 5 times .*500,000 of 3,000,000 bytes are on disk.*again to resume"):
        download(archive(server), tmp_path, pause_seconds=0)
    assert [path.name for path in tmp_path.iterdir()] == ["stl10_binary.tar.gz.partial"]
    assert download(archive(server), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == "bytes=500000-"


def test_server_that_ignores_range_sends_all_again(server, tmp_path):
    server.honours_range = False
    server.cuts = [1_000_000]
    assert download(archive(server), tmp_path, pause_seconds=0).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000000-"]


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("content", [CONTENT + b"x", b"<html>moved</html>"], ids=["longer", "shorter"])
def test_file_of_another_size_is_refused(server, tmp_path, content, announced):
    server.content, server.announces_length = content, announced
    with pytest.raises(DataError, match="another file"):
        download(archive(server), tmp_path, pause_seconds=0)
    assert not (tmp_path / "stl10_binary.tar.gz").exists()


def test_file_of_another_content_is_refused_and_not_kept(server, tmp_path):
    server.content = b"y" + CONTENT[1:]
    with pytest.raises(DataError, match=r"has 3,000,000 bytes and the SHA-256 .* instead of .* another file"):
        download(archive(server), tmp_path)
    assert list(tmp_path.iterdir()) == []
    server.content = CONTENT
    assert download(archive(server), tmp_path).read_bytes() == CONTENT


def test_a_second_download_of_the_same_file_is_refused(server, tmp_path):
    second = []

    def meanwhile(done: int) -> None:
        if not second:
            with pytest.raises(UserError, match=r"Another process is already downloading .*stl10_binary\.tar\.gz"):
                download(archive(server), tmp_path)
            second.append(done)

    assert download(archive(server), tmp_path, meanwhile).read_bytes() == CONTENT
    assert second
    assert [path.name for path in tmp_path.iterdir()] == ["stl10_binary.tar.gz"]


def test_damaged_file_that_lies_there_is_named(server, tmp_path):
    (tmp_path / "stl10_binary.tar.gz").write_bytes(CONTENT[:10])
    with pytest.raises(DataError, match=r"stl10_binary\.tar\.gz has 10 bytes.*Remove .* and start again"):
        download(archive(server), tmp_path)


def test_no_server_is_one_sentence(tmp_path):
    nowhere = Archive("http://127.0.0.1:9/stl10_binary.tar.gz", 5, "0" * 64)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9/stl10_binary\.tar\.gz failed 5 times \(ConnectError"):
        download(nowhere, tmp_path, pause_seconds=0)


def test_official_archive_is_the_one_that_tensorflow_datasets_records():
    from importlib import resources

    line = (resources.files("tensorflow_datasets") / "datasets" / "stl10" / "checksums.tsv").read_text().split("\t")
    official = stl10_download.STL10
    assert [official.url, str(official.size), official.sha256] == line[:3]
    assert Path(official.name).name == line[3].strip()
