"""How the files of sources are listed and read: on a disk, in Cloud Storage and in S3."""

import errno
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.image_example_gen.sources import files
from components.image_example_gen.sources.files import Entry
from tests import unprivileged
from trainer import storage
from trainer.errors import DataError, SettingsError


def put(folder: str, contents: dict[str, bytes]) -> None:
    """Stores files below a folder, on a disk or in a bucket."""
    target, root = storage.located(folder)
    for name in contents:
        target.makedirs(os.path.dirname(f"{root}/{name}"), exist_ok=True)
    target.pipe({f"{root}/{name}": content for name, content in contents.items()})


def listed(folder: str) -> list[tuple[str, Entry]]:
    return [(files.join(folder, name), entry) for name, entry in files.listing(folder).files.items()]


CONTENTS = {"b/c.png": b"22", "a.png": b"1", "b/d/e.png": b"", "b/f [1]*.png": b"4444"}


@pytest.fixture(params=["local", "gs", "s3"])
def anywhere(request, tmp_path) -> str:
    if request.param == "local":
        return str(tmp_path / "images")
    fixture = {"gs": "cloud_storage", "s3": "s3"}[request.param]
    return f"{request.param}://{request.getfixturevalue(fixture)}/{tmp_path.name}"


def test_a_listing_names_each_file_below_a_folder_with_its_size_and_version(anywhere):
    put(anywhere, CONTENTS)
    put(f"{anywhere}-beside", {"g.png": b"of another folder whose name begins the same"})
    before = files.listing(anywhere).files
    assert list(before) == sorted(CONTENTS)
    assert {name: entry.size for name, entry in before.items()} == {name: len(text) for name, text in CONTENTS.items()}
    assert files.listing(f"{anywhere}/").files == before
    assert files.listing(f"{anywhere}/b/c.png").files == {"": before["b/c.png"]}
    # Of this folder, SeaweedFS keeps something when its only object is deleted.
    put(anywhere, {"gone/h.png": b"5"})
    target, root = storage.located(anywhere)
    target.rm(f"{root}/gone", recursive=True)
    for nothing in ("b/c", "nothing", "a.png/below", "gone"):
        assert files.listing(f"{anywhere}/{nothing}") == files.Listing()
    put(anywhere, {"a.png": b"9"})
    after = files.listing(anywhere).files
    assert [name for name in after if after[name].version != before[name].version] == ["a.png"]


def test_the_names_in_a_folder_are_those_of_files_and_folders(anywhere):
    put(anywhere, CONTENTS)
    assert files.names(anywhere) == ["a.png", "b"]
    assert files.names(f"{anywhere}/b") == ["c.png", "d", "f [1]*.png"]
    assert files.names(f"{anywhere}/nothing") == files.names(f"{anywhere}/a.png/below") == []


def test_an_object_that_stands_for_a_folder_is_not_content(monkeypatch):
    """The Cloud console creates such an object, which fake-gcs-server cannot store."""
    stored = {"size": 0, "crc32c": "AAAAAA==", "mtime": datetime(2026, 11, 24, tzinfo=UTC)}

    class Files:
        def find(self, folder, detail):
            return dict.fromkeys((f"{folder}/", f"{folder}/unlabelled/", f"{folder}/unlabelled/x.png"), stored)

    monkeypatch.setattr(storage, "located", lambda path: (Files(), path.removeprefix("gs://")))
    assert list(files.listing("gs://bucket/a/9").files) == ["unlabelled/x.png"]


def test_files_and_ranges_are_read(anywhere):
    put(anywhere, {"x": b"0123456789"})
    path = f"{anywhere}/x"
    assert files.read(path) == b"0123456789"
    assert files.read(path, 3, 4) == b"3456"
    assert files.read(path, 0, 2) == b"01"
    assert files.read(path, 7) == b"789"
    with files.opened(path) as file:
        assert (file.read(4), file.read(4), file.read(4), file.read(4)) == (b"0123", b"4567", b"89", b"")
    assert files.exists(path)
    assert not files.exists(anywhere)
    assert not files.exists(f"{anywhere}/y")


def test_files_are_read_ahead_in_their_order(anywhere):
    contents = {f"{number:03d}": str(number).encode() * number for number in range(100)}
    put(anywhere, contents)
    backwards = listed(anywhere)[::-1]
    read = list(files.read_ahead(backwards))
    assert read == [(path, contents[path[-3:]]) for path, _ in backwards]


def test_a_file_that_vanished_or_shrank_since_it_was_listed_is_named(anywhere):
    put(anywhere, {"a": b"1", "b": b"22"})
    entries = listed(anywhere)
    put(anywhere, {"b": b"2"})
    with pytest.raises(DataError, match=r"/b changed while the source was read"):
        list(files.read_ahead(entries))
    target, root = storage.located(anywhere)
    target.rm_file(f"{root}/a")
    with pytest.raises(DataError, match=r"/a changed while the source was read"):
        list(files.read_ahead(entries))
    with pytest.raises(DataError, match=r"/a changed while"), files.opened(f"{anywhere}/a"):
        pass


def test_a_bucket_answers_one_request_for_a_listing_and_one_for_each_object(watched_bucket):
    folder, proxy = watched_bucket
    put(folder, {f"{number:02d}": b"x" * 10 for number in range(50)})
    proxy.requests.clear()
    entries = listed(folder)
    assert len(proxy.requests) == 1
    proxy.requests.clear()
    assert len(list(files.read_ahead(entries))) == 50
    assert len(proxy.requests) == len(set(proxy.requests)) == 50


def test_many_objects_are_requested_at_a_time_and_their_bytes_are_bounded(watched_bucket, monkeypatch):
    folder, proxy = watched_bucket
    put(folder, {f"{number:02d}": b"x" * 1000 for number in range(40)})
    entries = listed(folder)
    proxy.delay, proxy.most_at_once = 0.05, 0
    list(files.read_ahead(entries))
    assert 8 <= proxy.most_at_once <= files._CONCURRENT_REQUESTS
    proxy.most_at_once = 0
    monkeypatch.setattr(files, "_MOST_BYTES_WAITING", 3500)
    list(files.read_ahead(entries))
    assert proxy.most_at_once == 3
    # A file that is larger than the bound is read nevertheless, alone.
    proxy.most_at_once = 0
    monkeypatch.setattr(files, "_MOST_BYTES_WAITING", 1)
    assert len(list(files.read_ahead(entries[:5]))) == 5
    assert proxy.most_at_once == 1


def test_nothing_more_is_requested_when_the_reader_stops(watched_bucket):
    folder, proxy = watched_bucket
    put(folder, {f"{number:03d}": b"x" for number in range(100)})
    entries = listed(folder)
    proxy.requests.clear()
    reading = files.read_ahead(entries)
    next(reading)
    reading.close()
    assert len(proxy.requests) <= 1 + files._CONCURRENT_REQUESTS


@pytest.mark.usefixtures("quick_retries")
def test_what_stays_away_or_refuses_is_one_sentence(watched_bucket):
    folder, proxy = watched_bucket
    put(folder, {"a": b"1"})
    entries = listed(folder)
    missing = f"{folder[:5]}nobody-has-this/images"
    with pytest.raises(DataError, match=rf"{missing} cannot be used: there is no bucket nobody-has-this at http://.*"):
        files.listing(missing)
    with pytest.raises(DataError, match="there is no bucket nobody-has-this"):
        files.names(missing)
    attempts = (lambda: files.listing(folder), lambda: files.names(folder), lambda: list(files.read_ahead(entries)))
    proxy.refusal = 403
    for attempt in attempts:
        with pytest.raises(DataError, match=rf"{folder}.* the credentials do not permit it \(.*not allowed"):
            attempt()
    proxy.refusal, proxy.down = 0, True
    for attempt in attempts:
        with pytest.raises(DataError, match=rf"{folder}.* cannot be used: the storage at .* failed and kept failing"):
            attempt()
    proxy.down, proxy.faulty = False, True
    assert list(files.read_ahead(listed(folder))) == [(f"{folder}/a", b"1")]
    assert proxy.met


def test_names_that_no_bucket_can_have_are_refused(s3):
    for scheme in storage.BUCKETS:
        with pytest.raises(SettingsError, match=rf"{scheme}/x names no bucket: write {scheme}BUCKET/FOLDER"):
            files.listing(f"{scheme}/x")
    with pytest.raises(DataError, match=r"Invalid bucket name .*: check the name"):
        files.listing("s3://no bucket!/x")


def test_missing_credentials_are_said_with_the_variables_that_name_them(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    storage._connected.cache_clear()
    with pytest.raises(DataError, match=r"s3://images/x cannot be used: no valid credentials .*AWS_ACCESS_KEY_ID"):
        files.listing("s3://images/x")
    storage._connected.cache_clear()
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(DataError, match=r"gs://x cannot be used: no valid credentials .*missing\.json"):
        files.listing("gs://x")


def test_links_are_followed_and_what_cannot_be_listed_is_told(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for folder in (root / "a" / "b", elsewhere):
        folder.mkdir(parents=True)
    (elsewhere / "x.png").write_bytes(b"x")
    (root / "linked").symlink_to(elsewhere)
    (root / "file.png").symlink_to(elsewhere / "x.png")
    (root / "a" / "b" / "up").symlink_to(root / "a")
    (elsewhere / "back").symlink_to(root)
    (root / "nowhere").symlink_to(tmp_path / "missing")
    (root / "itself").symlink_to("itself")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(root / "socket"))
    odd = os.fsdecode(b"caf\xe9.png")
    (root / odd).write_bytes(b"1")
    found = files.listing(str(root))
    assert list(found.files) == sorted(["file.png", "linked/x.png", odd])
    assert found.problems == {
        "a/b/up": "the link leads to a folder that contains it",
        "linked/back": "the link leads to a folder that contains it",
        "itself": "the link leads to itself",
        "nowhere": "the link leads nowhere",
        "pipe": "it is neither a file nor a folder",
        "socket": "it is neither a file nor a folder",
    }
    assert list(files.read_ahead([(f"{root}/{odd}", found.files[odd])])) == [(f"{root}/{odd}", b"1")]


def test_folders_without_permission_are_told_and_files_without_it_are_given_as_errors():
    with unprivileged.folder() as root:
        for name in ("open/1.png", "closed/2.png", "closed.png"):
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_bytes(b"x")
        (root / "closed").chmod(0)
        (root / "closed.png").chmod(0)
        with unprivileged.user():
            found = files.listing(str(root))
            read = [content for _, content in files.read_ahead(listed(str(root)))]
            with pytest.raises(DataError, match=r"closed cannot be used: Permission denied"):
                files.listing(str(root / "closed"))
            with pytest.raises(DataError, match=r"closed\.png cannot be used: Permission denied"):
                files.read(str(root / "closed.png"))
        assert list(found.files) == ["closed.png", "open/1.png"]
        assert found.problems == {"closed": files.NO_PERMISSION}
        assert isinstance(read[0], PermissionError)
        assert read[1] == b"x"


def test_an_error_of_a_disk_is_tried_again_and_then_named(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_WAITS", (0.0, 0.0))
    # Reading this file from its start is a real input/output error.
    broken = tmp_path / "broken.png"
    broken.symlink_to("/proc/self/mem")
    for attempt in (
        lambda: list(files.read_ahead(listed(str(tmp_path)))),
        lambda: files.read(str(broken)),
        lambda: opened_and_read(broken),
    ):
        with pytest.raises(DataError, match=r"broken\.png cannot be used: Input/output error"):
            attempt()
    failures = [OSError(errno.EIO, "Input/output error"), OSError(errno.ESTALE, "Stale file handle")]
    assert files._retried(lambda: raise_next(failures) or 7) == 7


def opened_and_read(path: Path) -> bytes:
    with files.opened(str(path)) as file:
        return file.read()


def raise_next(errors: list[OSError]) -> None:
    if errors:
        raise errors.pop()
