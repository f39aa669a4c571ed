"""`nnclr embed`: a whole source becomes one file, whatever happens on the way."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components import file_lock
from components.embeddings import formats
from components.image_example_gen import artifact as examples_artifact
from components.model_registry import ModelRegistry
from components.registry_pusher import release
from pipeline import config
from pipeline.data import sample
from pipeline.local import embedding, single_steps
from pipeline.local.workdir import Busy, Workdir
from tests import interpreters
from tests.components import releases
from tests.pipeline.commands.sessions import session
from trainer import storage
from trainer.errors import DataError, SettingsError, UserError

# Runs a command that is killed by SIGKILL instead of the given number of files' last step, which makes them visible.
_KILLED = """
import os, signal, sys
from fsspec.implementations.local import LocalFileSystem
from pipeline import cli
moves, move = int(sys.argv.pop(1)), LocalFileSystem.mv
def mv(self, *arguments, **options):
    global moves
    if not moves:
        os.kill(os.getpid(), signal.SIGKILL)
    moves -= 1
    return move(self, *arguments, **options)
LocalFileSystem.mv = mv
sys.argv[0] = "nnclr"
cli.main()
"""


def killed(folder: Path, moves: int, command: list[str]) -> int:
    return interpreters.commands().run("-c", _KILLED, str(moves), *command, cwd=folder).returncode


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder with a picture in each split, two in `test`, one of which cannot be decoded."""
    folder = tmp_path / "pictures"
    rng = np.random.default_rng(0)
    for name in ("unlabelled/a", "train/cat/b", "train/dog/c", "test/dog/d"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / f"{name}.png")
    (folder / "test" / "dog" / "e.png").write_bytes(b"no picture")
    return folder


def test_a_command_that_is_killed_twice_goes_on_and_writes_the_same_embeddings(tmp_path):
    sample.write_sample(tmp_path / "pictures", counts={"unlabelled": 40, "train": 60, "test": 40})
    releases.export_model(tmp_path / "encoder", seed=1)
    command = ["embed", "pictures", "-o", "e.parquet", "--model", "encoder"]
    # The first file that becomes visible describes the embeddings, the next ones are their three parts.
    assert killed(tmp_path, 2, command) == -signal.SIGKILL
    assert hidden(tmp_path) == [".e.parquet.unfinished"]
    assert not (tmp_path / "e.parquet").exists()
    (first,) = (tmp_path / ".e.parquet.unfinished" / "parts").glob("*.npz")
    written = first.stat().st_mtime_ns
    # Two more parts, and then the whole file.
    assert killed(tmp_path, 2, command) == -signal.SIGKILL
    assert not (tmp_path / "e.parquet").exists()
    assert first.stat().st_mtime_ns == written
    (done, undisturbed) = session(
        tmp_path,
        [*command, "--json"],
        ["embed", "pictures", "-o", "undisturbed.parquet", "--model", "encoder"],
    )
    assert [done.code, undisturbed.code] == [0, 0], done.err
    assert "Going on: 3 of 3 parts are finished." in done.err
    assert [done.json["description"][name] for name in ("count", "length")] == [140, 8]
    assert (tmp_path / "e.parquet").read_bytes() == (tmp_path / "undisturbed.parquet").read_bytes()
    assert hidden(tmp_path) == []


@pytest.mark.long
def test_embeddings_are_replaced_only_on_demand(tmp_path, pictures):
    for seed, name in enumerate(("encoder", "other")):
        releases.export_model(tmp_path / name, seed)
    command = ["embed", "pictures", "-o", "e.npz", "--set", "data.max_rejected=1", "--model"]
    (written, again, refused, replaced) = session(
        tmp_path, [*command, "encoder"], [*command, "encoder"], [*command, "other"], [*command, "other", "--overwrite"]
    )
    assert [written.code, again.code, replaced.code] == [0, 0, 0], written.err
    rejected = "(1 rejected, see e.npz.rejected.jsonl)."
    assert f"Wrote 4 embeddings of length 8 to e.npz {rejected}\nEncoder: encoder (sha256" in written.out
    assert "Next: python -c" in written.out
    assert f"e.npz already holds these 4 embeddings {rejected}" in again.out
    assert [refused.code, "its embeddings are of encoder" in refused.err, "--overwrite" in refused.err] == [
        2,
        True,
        True,
    ]
    assert formats.read_description(str(tmp_path / "e.npz")).model.name == "other"
    listed = [json.loads(line) for line in (tmp_path / "e.npz.rejected.jsonl").read_text().splitlines()]
    assert listed == [{"split": "test", "id": "test/dog/e.png", "reason": "cannot identify image file"}]
    assert hidden(tmp_path) == []


def test_a_bucket_that_fails_is_named_wherever_it_is_looked_at(watched_bucket, quick_retries):
    folder, proxy = watched_bucket
    proxy.down = True
    for look in (examples_artifact.is_artifact, single_steps.saved_model, embedding._finished, embedding._remove):
        with pytest.raises(UserError, match=rf"{folder} cannot be used: the storage at .* failed and kept failing"):
            look(folder)


def test_two_commands_never_write_one_file(tmp_path, pictures):
    (tmp_path / ".e.parquet.unfinished").mkdir()
    with file_lock.locked(tmp_path / ".e.parquet.unfinished"), pytest.raises(Busy, match="Another command writes"):
        embedding.embed(
            config.load(None, None, []), str(pictures), "x", Workdir(tmp_path), str(tmp_path / "e.parquet"), False
        )
    assert hidden(tmp_path) == [".e.parquet.unfinished"]


def test_unreadable_pictures_stop_the_command_and_embeddings_of_others_are_never_mixed(tmp_path, pictures, monkeypatch):
    encoder, other = (releases.export_model(tmp_path / name, seed) for seed, name in enumerate(("encoder", "other")))

    def embed(model: str, *overrides: str, overwrite: bool = False) -> embedding.Embedded:
        settings, out = config.load(None, None, list(overrides)), str(tmp_path / "e.parquet")
        return embedding.embed(settings, str(pictures), model, Workdir(tmp_path / "runs"), out, overwrite)

    with pytest.raises(DataError, match=r"test/dog/e\.png .*data.max_rejected=1.* All are listed in .*rejected.jsonl"):
        embed(encoder)
    with pytest.raises(SettingsError, match=r"unfinished embeddings of encoder .*, not of other .*--overwrite"):
        embed(other)
    (description,) = tmp_path.glob(".e.parquet.unfinished/*.json")
    whole = description.read_bytes()
    description.write_bytes(whole[:100])
    with pytest.raises(SettingsError, match=r"unfinished embeddings whose description is damaged: .*--overwrite"):
        embed(encoder)
    description.write_bytes(whole)
    with monkeypatch.context() as patch:
        # No part is missing.
        patch.delattr(single_steps, "pipelines")
        assert embed(encoder, "data.max_rejected=1").rejected == 1
    rows = pq.read_table(tmp_path / "e.parquet").to_pylist()
    assert [(row["id"], row["split"], row["label"], row["class"]) for row in rows] == [
        ("unlabelled/a.png", "unlabelled", None, None),
        ("train/cat/b.png", "train", 0, "cat"),
        ("train/dog/c.png", "train", 1, "dog"),
        ("test/dog/d.png", "test", 1, "dog"),
    ]
    assert [row["path"] for row in rows] == [str(pictures / row["id"]) for row in rows]
    with pytest.raises(SettingsError, match=r"its embeddings are of encoder .*, not of other .*--overwrite"):
        embed(other)
    (pictures / "test" / "dog" / "e.png").unlink()
    with pytest.raises(SettingsError, match=r"its embeddings are of images in .*pictures that have changed since"):
        embed(encoder)
    replaced = embed(other, overwrite=True)
    assert (replaced.description.model.name, replaced.description.count, replaced.rejected) == ("other", 4, 0)
    assert formats.read_description(str(tmp_path / "e.parquet")) == replaced.description
    # The list of rejected pictures has gone, too.
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "e."))] == ["e.parquet"]


@pytest.fixture
def workdir(tmp_path, empty_registry) -> Workdir:
    """A working directory whose registry has version 1 of the model `m`."""
    shutil.copytree(empty_registry, tmp_path / "runs" / "registry")
    model = releases.export_model(tmp_path / "encoder", seed=1)
    released = release.build(releases.candidate(model, "run"), "m", "x", tmp_path / "new")
    ModelRegistry(str(tmp_path / "runs" / "registry")).register("m", released)
    return Workdir(tmp_path / "runs")


@pytest.mark.long
def test_from_and_to_buckets_with_a_registered_version(tmp_path, pictures, bucket, workdir):
    (pictures / "test" / "dog" / "e.png").unlink()
    files, target = storage.located(bucket)
    for path in pictures.rglob("*.png"):
        files.pipe_file(f"{target}/pictures/{path.relative_to(pictures)}", path.read_bytes())
    settings, out = config.load(None, None, []), f"{bucket}/e.parquet"
    there = embedding.embed(settings, f"{bucket}/pictures", "m@1", workdir, out, False)
    here = embedding.embed(settings, str(pictures), "m@1", workdir, str(tmp_path / "e.parquet"), False)
    (version,) = ModelRegistry(str(workdir.registry)).versions("m")
    model = there.description.model
    assert (model.name, model.version, model.sha256) == ("m", 1, version.sha256)
    assert there.description.count == here.description.count == 4
    with files.open(f"{target}/e.parquet", "rb") as file:
        table = pq.read_table(file)
    assert table["embedding"] == pq.read_table(tmp_path / "e.parquet")["embedding"]
    assert table["path"].to_pylist() == [f"{bucket}/pictures/{name}" for name in table["id"].to_pylist()]
    assert embedding.embed(settings, f"{bucket}/pictures", "m@1", workdir, out, False).unchanged
    assert sorted(files.find(target)) == sorted([f"{target}/e.parquet", *files.find(f"{target}/pictures")])
