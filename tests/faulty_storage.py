"""Storage that fails now and then: a proxy in front of a real fake-gcs-server or SeaweedFS, which counts requests.

Every second upload fails, and of every other kind of request the first one: with 503, by a reset connection, by an
upload that is cut off halfway, or it is slow. Whoever tries again is served.
"""

import http.client
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

UNAVAILABLE, RESET, TRUNCATED, SLOW = "503", "reset", "truncated", "slow"
# Faults that only a subclass of `FaultyStorage` chooses: the answer ends halfway, or one of its bytes is changed.
CUT, CHANGED = "cut", "changed"
_FAULTS = (UNAVAILABLE, RESET, SLOW, TRUNCATED)
_SLOW_SECONDS = 0.3
# Between hosts, not for the other side.
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host"}


class FaultyStorage:
    """What the proxy does and did.

    Attributes:
        faulty: whether requests fail now and then.
        down: whether every request is answered with 503.
        refusal: the status with which every request is answered, if any; with the error that S3 and Google then give.
        delay: seconds that every request takes longer.
        met: how often each fault was met.
        requests: method and path, with the query, of every request so far.
        most_at_once: the largest number of requests that were delayed at the same time.
    """

    def __init__(self, upstream: str):
        self.upstream = upstream
        self.url = ""
        self.faulty, self.down = True, False
        self.refusal, self.delay = 0, 0.0
        self.requests: list[str] = []
        self.most_at_once = self._at_once = 0
        self.met: Counter[str] = Counter()
        self._seen: set[str] = set()
        self._uploads = 0
        self._lock = threading.Lock()

    def note(self, method: str, path: str) -> None:
        """Notes a request and delays it."""
        with self._lock:
            self.requests.append(f"{method} {path}")
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(self.delay)
        # Before the answer, after which the client may send its next request.
        with self._lock:
            self._at_once -= 1

    def fault(self, method: str, path: str) -> str | None:
        """The fault that a request meets, if any."""
        kind = f"{method} {path}"
        with self._lock:
            if self.down:
                return UNAVAILABLE
            if not self.faulty:
                return None
            if method in ("POST", "PUT"):
                # What is uploaded stands in the body: every other upload fails.
                self._uploads += 1
                fault = _FAULTS[self._uploads // 2 % len(_FAULTS)] if self._uploads % 2 else None
            elif kind in self._seen:
                fault = None
            else:
                self._seen.add(kind)
                # There is nothing to cut off but an upload.
                fault = _FAULTS[len(self._seen) % (len(_FAULTS) - 1)]
            if fault:
                self.met[fault] += 1
            return fault


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    storage: FaultyStorage

    def _serve(self) -> None:
        body = self._body()
        self.storage.note(self.command, self.path)
        if self.storage.refusal:
            google = b'{"error": {"code": %d, "message": "not allowed"}}' % self.storage.refusal
            amazon = b"<Error><Code>AccessDenied</Code><Message>not allowed</Message></Error>"
            self._answer(self.storage.refusal, {}, google if self.path.startswith("/storage/") else amazon)
            return
        fault = self.storage.fault(self.command, self.path)
        if fault == UNAVAILABLE:
            self._answer(503, {"Content-Type": "application/json"}, b'{"error": {"code": 503, "message": "try later"}}')
        elif fault == RESET:
            self._reset()
        elif fault == TRUNCATED:
            self._forward(body[: len(body) // 2], length=len(body))
            self._reset()
        else:
            if fault == SLOW:
                time.sleep(_SLOW_SECONDS)
            status, headers, content = self._forward(body, len(body))
            if fault == CHANGED and content:
                middle = len(content) // 2
                content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            self._answer(status, headers, content, cut=fault == CUT)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _serve

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _forward(self, body: bytes, length: int) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.storage.upstream.removeprefix("http://"), timeout=30)
        try:
            connection.putrequest(self.command, self.path, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP | {"content-length"}:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(length))
            connection.endheaders(body)
            if len(body) < length:
                return 0, {}, b""
            answer = connection.getresponse()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
            content = answer.read()
        finally:
            connection.close()
        ours, theirs = self.storage.url, self.storage.upstream
        headers = {name: value.replace(theirs, ours) for name, value in headers.items()}
        if headers.get("Content-Type", "").startswith("application/json"):
            content = content.replace(theirs.encode(), ours.encode())
        return answer.status, headers, content

    def _answer(self, status: int, headers: dict[str, str], content: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self._reset()

    def _reset(self) -> None:
        # Closed with unsent data to be thrown away: the other side gets a reset, no orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Connections that wait; a client tries those beyond again after a second or more.
    request_queue_size = 256

    def handle_error(self, request, client_address) -> None:
        """Broken connections are the point."""


@contextmanager
def in_front_of(
    upstream: str, variable: str = "STORAGE_EMULATOR_HOST", kind: type[FaultyStorage] = FaultyStorage
) -> Iterator[FaultyStorage]:
    """Points the clients that take their server from a variable to a faulty proxy of the server at `upstream`."""
    storage = kind(upstream)
    handler = type("Proxy", (_Proxy,), {"storage": storage})
    server = _Server(("127.0.0.1", 0), handler)
    storage.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    before = os.environ.get(variable)
    os.environ[variable] = storage.url
    try:
        yield storage
    finally:
        if before is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = before
        server.shutdown()
        server.server_close()
        thread.join()
