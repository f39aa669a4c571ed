"""Notifications: real receivers, among them slow ones and ones that are down."""

import http.server
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pipeline import config
from pipeline.config.notify import NotifySettings
from pipeline.notifications import sending
from pipeline.notifications.notice import Notice
from trainer.errors import SettingsError

# The address is secret from its path on, as that of a chat is.
SECRET = "/services/T0/B0/s3cret"
RELEASED = Notice(
    event="released",
    pipeline="nnclr-sample",
    run_id="20261126-030000-ab12",
    measure="linear probe",
    accuracy=0.545,
    interval=(0.514, 0.576),
    version="models:/nnclr-sample/3",
    report="/srv/nnclr-runs/runs/20261126-030000-ab12/report.html",
).with_text()
STOPPED_BY_GATE = Notice(
    event="failed", pipeline="nnclr", reason="The data failed validation: It is noise.", anomalies=("It is noise.",)
).with_text()


class _Receiver(http.server.ThreadingHTTPServer):
    """Keeps what it receives, and answers with a status, or with one byte after the other."""

    daemon_threads = True

    def __init__(self, status: int | None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.received, self.ended = status, [], threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{SECRET}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, self.headers["Content-Type"], json.loads(body)))
        if self.server.status is None:
            while not self.server.ended.wait(0.2):
                self.wfile.write(b"HTTP/1.1 200 OK"[:1])
            return
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Writes nothing."""


@contextmanager
def receiver(status: int | None = 200) -> Iterator[_Receiver]:
    with _Receiver(status) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()


def posting(on: str = "released") -> NotifySettings:
    return NotifySettings.model_validate({"on": [on], "url_from": "RECEIVER"})


def running(*command: str) -> NotifySettings:
    return NotifySettings.model_validate({"on": ["released"], "command": command})


def test_receivers_get_one_object_that_says_what_happened_and_where_to_look(tmp_path, monkeypatch, caplog):
    caplog.set_level(0)
    copy = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"
    with receiver() as server:
        monkeypatch.setenv("RECEIVER", server.address)
        receivers = [posting(), running(sys.executable, "-c", copy, str(tmp_path / "a; b")), posting("failed")]
        sending.require_usable(receivers)
        assert sending.send(receivers, RELEASED) == []
        ((path, kind, told),) = server.received
    assert (path, kind) == (SECRET, "application/json")
    assert told == json.loads((tmp_path / "a; b").read_text()) == RELEASED.model_dump(mode="json")
    assert told["text"] == (
        "Pipeline nnclr-sample, run 20261126-030000-ab12: the encoder was released. Version: models:/nnclr-sample/3. "
        "Linear probe: 54.5% (95 % interval 51.4% to 57.6%).\n"
        "Report: /srv/nnclr-runs/runs/20261126-030000-ab12/report.html"
    )
    assert "s3cret" not in caplog.text


def test_an_anomaly_is_told_whatever_the_end_but_only_once():
    both = NotifySettings.model_validate({"on": ["failed", "anomaly"], "command": ["true"]})
    warned = RELEASED.model_copy(update={"anomalies": ("It is dark.",)}).with_text()
    assert [one.concerns(both) for one in (RELEASED, warned, STOPPED_BY_GATE)] == [False, True, True]
    assert warned.event == "released"
    assert "Finding: It is dark." in warned.text
    assert STOPPED_BY_GATE.text.count("It is noise.") == 1


@pytest.mark.parametrize("status", [302, 500])
def test_a_receiver_that_refuses_is_reported_without_its_address(monkeypatch, status):
    with receiver(status) as server:
        monkeypatch.setenv("RECEIVER", server.address)
        (problem,) = sending.send([posting()], RELEASED)
        # There is no second try.
        assert len(server.received) == 1
    assert problem == (
        f"The receiver at the address in RECEIVER could not be told of the run's end: it answered with status {status}."
    )


def test_receivers_that_are_down_or_slow_delay_nobody_else(monkeypatch, tmp_path):
    monkeypatch.setattr(sending, "_TOTAL_SECONDS", 3.0)
    monkeypatch.setattr(sending, "_PAUSE_SECONDS", 2.0)
    # No server gets port 9 by chance, as it would the port of a server that has stopped.
    monkeypatch.setenv("GONE", f"http://127.0.0.1:9{SECRET}")
    with receiver() as well, receiver(None) as dripping:
        monkeypatch.setenv("WELL", well.address)
        monkeypatch.setenv("DRIPS", dripping.address)
        receivers = [
            *(
                NotifySettings.model_validate({"on": ["released"], "url_from": name})
                for name in ("DRIPS", "GONE", "WELL")
            ),
            # It starts another process, and both must end.
            running("sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 60 & sleep 60"),
            running("false"),
            running(str(tmp_path / "missing")),
        ]
        start = time.monotonic()
        problems = sending.send(receivers, RELEASED)
        assert time.monotonic() - start < 10
        assert len(well.received) == 1
    assert [problem.partition("end: ")[2] for problem in problems] == [
        "it did not end within 3 seconds.",
        "the request failed (ConnectError).",
        "it did not end within 3 seconds.",
        "it ended with exit code 1.",
        "it cannot be started (No such file or directory).",
    ]
    assert "s3cret" not in "".join(problems)
    group = int((tmp_path / "pid").read_text())
    left = [process for process in psutil.process_iter(["status"]) if _group(process.pid) == group]
    # The system collects a process that was ended a moment later.
    assert [process for process in left if process.info["status"] != psutil.STATUS_ZOMBIE] == []


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def test_a_receiver_in_yaml_needs_no_quotes(tmp_path):
    """YAML 1.1 takes `on` for a truth value."""
    (tmp_path / "settings.yaml").write_text("notify:\n- on: [failed]\n  command: [mail, -s, failed, me@example.org]\n")
    (found,) = config.load(file=tmp_path / "settings.yaml").notify
    assert (
        found
        == config.load(overrides=["notify=[{on: [failed], command: [mail, -s, failed, me@example.org]}]"]).notify[0]
    )
    assert (found.on, found.command[0]) == (("failed",), "mail")


def test_what_cannot_be_told_is_refused_before_the_run(monkeypatch, tmp_path):
    def refused(**entry: object) -> str:
        settings = config.load(overrides=[f"notify={json.dumps([{'on': ['failed'], **entry}])}"])
        with pytest.raises(SettingsError) as raised:
            sending.require_usable(settings.notify)
        return str(raised.value)

    monkeypatch.delenv("RECEIVER", raising=False)
    assert "notify.0.url_from names the environment variable RECEIVER, which is not set" in refused(url_from="RECEIVER")
    monkeypatch.setenv("RECEIVER", "s3cret")
    found = refused(url_from="RECEIVER")
    assert "begins neither with http:// nor with https://" in found
    assert "s3cret" not in found
    missing = str(Path(tmp_path, "tell"))
    assert f"notify.0.command: there is no program '{missing}'" in refused(command=[missing])


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"on": ["failed"]}, "name either url_from or command"),
        ({"on": ["failed"], "url_from": "A", "command": ["b"]}, "name either url_from or command"),
        ({"on": ["failed"], "url": "https://chat.test/s3cret"}, "notify.0 has command, on, url_from"),
        ({"on": ["failed"], "url_from": "https://chat.test/s3cret"}, "name the variable here"),
        ({"on": ["broken"], "command": ["b"]}, "'released', 'challenger'"),
        ({"on": [], "command": ["b"]}, "at least 1 item"),
        ({"on": ["failed"], "command": []}, "at least 1 item"),
        ({"on": ["failed"], "command": "mail -s failed"}, "is not allowed"),
    ],
)
def test_a_receiver_that_makes_no_sense_is_refused(entry, expected):
    with pytest.raises(SettingsError) as raised:
        config.load(overrides=[f"notify={json.dumps([entry])}"])
    assert expected in str(raised.value)
    assert "s3cret" not in str(raised.value)
