"""From embeddings to images to look at, and to leave out: search, duplicates, leaks and outliers."""

import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from components.image_example_gen.config import IngestSettings
from components.image_example_gen.sources.opening import open_all
from pipeline import cli
from pipeline.local import curation, searching
from pipeline.local.curation import Outputs
from pipeline.local.workdir import Workdir
from tests.components import drawings, embedded, releases
from tests.pipeline.commands.sessions import session
from trainer import splits
from trainer.errors import SettingsError

DOCUMENT = Path(__file__).parents[3] / "docs" / "embeddings.md"
# Split, id, class and the angle of the embedding in degrees. The last image resembles no other.
IMAGES = (
    ("unlabelled", "unlabelled/a.png", splits.NO_LABEL, 0),
    ("unlabelled", 'unlabelled/<b> & "c".png', splits.NO_LABEL, 0.5),
    ("unlabelled", "unlabelled/gone.png", splits.NO_LABEL, 40),
    ("train", "train/cat/d.png", 0, 41),
    ("train", "train/dog/e.png", 1, 80),
    ("train", "train/dog/f.png", 1, 60),
    ("test", "test/cat/g.png", 0, 80.5),
    ("test", "test/dog/h.png", 1, 180),
)
FOLDERS = ("unlabelled", "train/cat", "train/dog", "test/cat", "test/dog")
DUPLICATES = {'unlabelled/<b> & "c".png', "unlabelled/gone.png", "train/dog/e.png"}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with pictures, and their embeddings. One picture is gone."""
    for number, (_, name, _, _) in enumerate(IMAGES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 32), (20 * number, 50, 200)).save(tmp_path / name)
    (tmp_path / "unlabelled" / "gone.png").unlink()
    angles = np.radians([angle for *_, angle in IMAGES])
    embedded.write(tmp_path, np.stack([np.cos(angles), np.sin(angles)], axis=1), [image[:3] for image in IMAGES])
    return tmp_path


def test_all_but_one_of_each_group_are_listed_and_ingest_leaves_them_out(folder):
    outputs = Outputs(str(folder / "list.jsonl"), str(folder / "page.html"))
    found = curation.duplicates(str(folder / "embeddings.parquet"), 0.999, outputs)
    # An image of test is kept rather than one of train, and that rather than an unlabelled one.
    assert {group.image.id: [copy.id for copy in group.similar] for group in found.groups} == {
        "train/cat/d.png": ["unlabelled/gone.png"],
        "unlabelled/a.png": ['unlabelled/<b> & "c".png'],
        "test/cat/g.png": ["train/dog/e.png"],
    }
    assert found.groups[0].least_similarity == pytest.approx(np.cos(np.radians(1)), abs=1e-6)
    lines = [json.loads(line) for line in (folder / "list.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines} == DUPLICATES == {copy.id for group in found.groups for copy in group.similar}
    assert lines[0]["reason"] == "a duplicate of train/cat/d.png (similarity 0.9998)"
    source = open_all(str(folder), IngestSettings(exclude=str(folder / "list.jsonl")))
    assert source.counts == {"unlabelled": 1, "train": 2, "test": 2}
    page = (folder / "page.html").read_text()
    assert page.count('src="data:image/webp') == 5
    assert "the file is gone" in page
    assert "<b>" not in page
    assert "unlabelled/&lt;b&gt; &amp; &#34;c&#34;.png" in page
    assert "The classes differ:</strong> cat, dog" in page


def test_a_leak_is_listed_in_the_first_split_and_counted_in_both(folder):
    path, outputs = str(folder / "embeddings.parquet"), Outputs(str(folder / "list.jsonl"))
    found = curation.leaks(path, ("train", "test"), 0.999, outputs)
    assert (found.images, found.leaked) == ({"train": 3, "test": 2}, {"train": 1, "test": 1})
    assert json.loads((folder / "list.jsonl").read_text())["id"] == "train/dog/e.png"
    with pytest.raises(SettingsError, match="no images of a split tset: its splits are test, train, unlabelled"):
        curation.leaks(path, ("train", "tset"), 0.999, Outputs())
    with pytest.raises(SettingsError, match="names the split train twice"):
        curation.leaks(path, ("train", "train"), 0.999, Outputs())


def test_the_most_distant_image_is_the_first_outlier(folder):
    path, outputs = str(folder / "embeddings.parquet"), Outputs(page=str(folder / "page.html"))
    found = curation.outliers(path, 2, 3, outputs)
    first = found.outliers[0]
    assert first.image.id == "test/dog/h.png"
    assert first.distance == pytest.approx(1 - np.cos(np.radians([99.5, 100])).mean(), abs=1e-6)
    assert [image.id for image in first.similar] == ["test/cat/g.png", "train/dog/e.png"]
    assert "distance 1.169" in (folder / "page.html").read_text()
    with pytest.raises(SettingsError, match="has 8 images: choose fewer neighbours"):
        curation.outliers(path, 8, 3, outputs)


def test_an_image_of_the_file_is_searched_without_an_encoder(folder):
    found = searching.search(
        "train/cat/d.png", str(folder / "embeddings.parquet"), 2, None, Workdir(folder / "runs"), None
    )
    assert [image.id for image in found.similar] == ["unlabelled/gone.png", "train/dog/f.png"]
    with pytest.raises(SettingsError, match=r"x\.png is neither a picture file nor the id of .*such as unlabelled/a"):
        searching.search("x.png", str(folder / "embeddings.parquet"), 2, None, Workdir(folder / "runs"), None)


def test_the_commands_print_what_was_found(folder, monkeypatch):
    monkeypatch.chdir(folder)

    def run(*command: str) -> Result:
        return CliRunner().invoke(cli.app, [*command, "--in", "embeddings.parquet"])

    assert run("search", "train/cat/d.png", "-k", "1").stdout == "0.9998  unlabelled/gone.png\n"
    duplicates = run("duplicates", "-o", "list.jsonl").stdout
    assert "3 of 8 images resemble one that is kept" in duplicates
    assert f"Next: nnclr run --data {folder} --set data.exclude=list.jsonl" in duplicates
    leaks = run("leaks", "--between", "train", "test", "--json").stdout
    assert json.loads(leaks)["leaked"] == {"train": 1, "test": 1}
    assert run("outliers", "-k", "2", "-n", "1", "--html", "page.html").stdout.splitlines() == [
        "The most distant of 8 images (median distance 0.045):",
        "1.169  test/dog/h.png",
        "Page: page.html",
    ]
    with pytest.raises(SettingsError, match=r"-o is .*embeddings\.parquet: end the name with \.jsonl"):
        raise run("outliers", "-o", "embeddings.parquet").exception


@pytest.mark.long
def test_the_documented_commands_find_what_was_planted(tmp_path):
    pictures = tmp_path / "pictures"
    for seed, (folder, number) in enumerate(itertools.product(FOLDERS, range(8))):
        (pictures / folder).mkdir(parents=True, exist_ok=True)
        drawings.texture(seed).save(pictures / folder / f"{number}.png")
    for copy in (pictures / "train" / "cat" / "leak.png", tmp_path / "photo.png"):
        shutil.copy(pictures / "test" / "cat" / "0.png", copy)
    releases.export_model(tmp_path / "encoder", seed=1)
    releases.export_model(tmp_path / "other", seed=2)
    text = DOCUMENT.read_text()
    sections = text.partition("## Searching")[2].partition("## Interruptions")[0]
    commands = [line.split() for line in re.findall(r"^\$ nnclr (.*)$", sections, re.MULTILINE)]
    assert [command[0] for command in commands] == ["search", "search", "duplicates", "leaks", "outliers", "ingest"]
    embed = ["embed", "pictures", "-o", "embeddings.parquet", "--model", "encoder"]
    embedded, by_picture, by_id, duplicates, leaks, outliers, ingested, refused = session(
        tmp_path, embed, *commands, ["search", "photo.png", "--in", "embeddings.parquet", "--model", "other"]
    )
    for done in (embedded, by_picture, by_id, duplicates, leaks, outliers, ingested):
        assert done.code == 0, done.err
    assert {line.split()[1] for line in by_picture.out.splitlines()[:2]} == {"test/cat/0.png", "train/cat/leak.png"}
    assert "train/cat/leak.png" in (tmp_path / "leaks.jsonl").read_text()
    excluded = len((tmp_path / "duplicates.jsonl").read_text().splitlines())
    assert f"{excluded:>8,}  excluded" in ingested.out
    assert refused.code == 2
    assert "has embeddings of encoder (sha256" in refused.err
    assert "not of other (sha256" in refused.err
