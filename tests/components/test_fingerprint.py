"""The fingerprint of a source: what changes it, what it costs, and that it is of what was read."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from PIL import Image

from components.image_example_gen import fingerprint as fingerprints
from components.image_example_gen import stl10
from components.image_example_gen.fingerprint import fingerprint, require, require_unchanged
from components.image_example_gen.sources import files
from components.image_example_gen.sources.opening import open_source
from tests import unprivileged
from tests.components.test_files import put
from trainer.errors import DataError


@pytest.fixture(autouse=True)
def process(monkeypatch) -> dict:
    """Makes each test a process of its own, which remembers no fingerprint."""
    computed: dict = {}
    monkeypatch.setattr(fingerprints, "_computed", computed)
    return computed


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """The paths of the files whose contents are hashed."""
    paths: list[str] = []
    opened = files.opened
    monkeypatch.setattr(files, "opened", lambda path: paths.append(path) or opened(path))
    return paths


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(4):
        path = tmp_path / "folder" / "unlabelled" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    return tmp_path / "folder"


def of(path: Path | str, memory: Path | None = None) -> str:
    return fingerprint(open_source(str(path)), memory)


def test_it_is_that_of_earlier_versions(stl10_directory):
    expected = hashlib.sha256(b"stl10 directory")
    for name in sorted(stl10.FILES):
        content = (stl10_directory / name).read_bytes()
        digest = f"{len(content)}:{hashlib.sha256(content).hexdigest()}"
        expected.update(json.dumps([f"/{name}", digest]).encode())
    assert of(stl10_directory) == expected.hexdigest()[:32]


def test_it_depends_on_content_and_not_on_path_or_date(stl10_directory, tmp_path):
    memory = tmp_path / "fingerprints"
    first = of(stl10_directory, memory)
    (stl10_directory / "train_X.bin").touch()
    moved = stl10_directory.rename(tmp_path / "elsewhere")
    assert of(moved, memory) == first
    labels = bytearray((moved / "train_y.bin").read_bytes())
    labels[0] = 5
    (moved / "train_y.bin").write_bytes(labels)
    assert of(moved, memory) != first


def test_it_depends_on_the_class_of_a_picture(tmp_path):
    for split in ("train", "test"):
        for kind in ("cat", "dog"):
            path = tmp_path / "folder" / split / kind / "x.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(path)
    Image.new("RGB", (8, 8)).save(tmp_path / "folder" / "x.png")
    (tmp_path / "folder" / "unlabelled").mkdir()
    (tmp_path / "folder" / "x.png").rename(tmp_path / "folder" / "unlabelled" / "x.png")
    before = of(tmp_path / "folder")
    # The same contents in the same order have other names.
    for split in ("train", "test"):
        for path in sorted((tmp_path / "folder" / split).iterdir()):
            path.rename(path.with_name(f"a-{path.name}"))
    assert of(tmp_path / "folder") != before


def test_an_edit_that_keeps_size_and_date_changes_it(folder, tmp_path):
    path, memory = folder / "unlabelled" / "0.png", tmp_path / "fingerprints"
    before, status = of(folder, memory), path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    with open(path, "r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    now = path.stat()
    assert (now.st_size, now.st_mtime_ns, now.st_ino) == (status.st_size, status.st_mtime_ns, status.st_ino)
    assert of(folder, memory) != before


def test_unchanged_files_are_hashed_once_for_all_runs(folder, tmp_path, process, hashed):
    memory = tmp_path / "fingerprints"
    first = of(folder, memory)
    assert len(hashed) == 4
    process.clear()
    assert of(folder, memory) == first
    assert len(hashed) == 4
    # In the same process, also without the memory: as when ingest compares.
    assert of(folder) == first
    assert len(hashed) == 4
    Image.new("RGB", (8, 8)).save(folder / "unlabelled" / "4.png")
    assert of(folder, memory) != first
    assert hashed[4:] == [str(folder / "unlabelled" / "4.png")]


@pytest.mark.parametrize(
    "content",
    [b"[]", b'{"/unlabelled/0.png": ["v"]}', b'{"/unlabelled/0.png": 1}', b"\xff", b"[" * 10_000],
    ids=["list", "no digest", "number", "not UTF-8", "nested"],
)
def test_a_damaged_memory_is_written_anew(folder, tmp_path, process, content):
    memory = tmp_path / "fingerprints"
    first = of(folder, memory)
    (file,) = memory.iterdir()
    whole = file.read_bytes()
    file.write_bytes(content)
    process.clear()
    assert of(folder, memory) == first
    assert file.read_bytes() == whole


def test_names_that_are_not_utf_8_are_remembered(folder, tmp_path, process, hashed):
    name = os.fsdecode(b"caf\xe9.png")
    Image.new("RGB", (8, 8), (9, 9, 9)).save(folder / "unlabelled" / "9.png")
    (folder / "unlabelled" / "9.png").rename(folder / "unlabelled" / name)
    first = of(folder, tmp_path / "fingerprints")
    assert len(hashed) == 5
    process.clear()
    assert of(folder, tmp_path / "fingerprints") == first
    assert len(hashed) == 5


def test_the_memory_holds_the_files_of_sources_in_use(folder, tmp_path):
    memory = tmp_path / "fingerprints"
    memory.with_suffix(".json").write_text("of nnclr 0.1.0")
    of(folder, memory)
    (file,) = memory.iterdir()
    assert len(json.loads(file.read_text())) == 4
    assert not memory.with_suffix(".json").exists()
    (folder / "unlabelled" / "0.png").unlink()
    of(folder, memory)
    assert sorted(json.loads(file.read_text())) == [f"/unlabelled/{number}.png" for number in (1, 2, 3)]
    file.write_text("cut o")
    month_ago = time.time() - 31 * 24 * 3600
    os.utime(file, (month_ago, month_ago))
    moved = folder.rename(folder.with_name("moved"))
    of(moved, memory)
    (other,) = memory.iterdir()
    assert other != file


def test_the_checksums_of_a_bucket_come_with_its_listing(watched_bucket, folder, tmp_path):
    bucket, proxy = watched_bucket
    put(bucket, {f"unlabelled/{path.name}": path.read_bytes() for path in (folder / "unlabelled").iterdir()})
    proxy.requests.clear()
    memory = tmp_path / "fingerprints"
    first = of(bucket, memory)
    assert len(proxy.requests) == 1
    assert not memory.exists()
    put(bucket, {"unlabelled/0.png": (folder / "unlabelled" / "0.png").read_bytes()})
    assert of(bucket) == first
    put(bucket, {"unlabelled/0.png": (folder / "unlabelled" / "1.png").read_bytes()})
    assert of(bucket) != first


def test_a_file_that_must_not_be_read_counts_until_it_may_be_read(process):
    with unprivileged.folder() as root:
        path = root / "unlabelled" / "a.png"
        path.parent.mkdir()
        Image.new("RGB", (8, 8)).save(path)
        path.chmod(0)
        (root / "memory").mkdir()
        (root / "memory").chmod(0o777)
        with unprivileged.user():
            closed = of(root, root / "memory")
        path.chmod(0o644)
        assert of(root, root / "memory") != closed


def test_a_source_that_changed_since_the_run_started_is_refused(folder):
    started = of(folder)
    require(open_source(str(folder)), started)
    Image.new("RGB", (8, 8)).save(folder / "unlabelled" / "9.png")
    with pytest.raises(DataError, match=rf"folder changed after its fingerprint was computed: .*{started}"):
        require(open_source(str(folder)), started)


def test_what_was_read_is_what_was_listed(folder):
    source = open_source(str(folder))
    listed = fingerprint(source)
    # What arrives is not read, and what only its inode tells of is the same.
    Image.new("RGB", (8, 8)).save(folder / "unlabelled" / "9.png")
    os.link(folder / "unlabelled" / "0.png", folder / "backup")
    require_unchanged(source, listed)
    Image.new("RGB", (8, 8), (9, 9, 9)).save(folder / "unlabelled" / "0.png")
    with pytest.raises(DataError, match=r"0\.png changed while the source was read"):
        require_unchanged(source, listed)
    (folder / "unlabelled" / "0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png changed while the source was read"):
        require_unchanged(source, listed)


def test_an_object_that_changed_while_it_was_read_is_named(bucket, folder):
    contents = {f"unlabelled/{path.name}": path.read_bytes() for path in (folder / "unlabelled").iterdir()}
    put(bucket, contents)
    source = open_source(bucket)
    put(bucket, {"unlabelled/0.png": contents["unlabelled/0.png"]})
    require_unchanged(source, fingerprint(source))
    put(bucket, {"unlabelled/0.png": contents["unlabelled/1.png"]})
    with pytest.raises(DataError, match=r"unlabelled/0\.png changed while the source was read"):
        require_unchanged(source, fingerprint(source))
