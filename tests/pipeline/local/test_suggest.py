"""`nnclr suggest`: from embeddings and labels to a table to complete."""

import csv
from pathlib import Path

import numpy as np
import pytest

from components.embeddings import formats, label_choice
from components.embeddings.description import Description, Model
from components.embeddings.formats import Rows
from components.embeddings.parts import Part
from components.image_example_gen.sources import labels_file
from pipeline.local import suggestion
from trainer import splits
from trainer.errors import DataError, SettingsError

CLASSES = ("cat", "dog")


@pytest.fixture
def embeddings(tmp_path) -> str:
    """A file with 30 images without a label, a cat and a dog in `train`, and a cat in `test`."""
    path = str(tmp_path / "e.parquet")
    description = Description(
        nnclr="0.1.0",
        model=Model(name="encoder", version=3, sha256="c0ffee" * 10),
        image_size=(32, 32),
        source="/pictures",
        fingerprint="f00d",
        settings={},
        class_names=CLASSES,
        count=33,
        length=4,
    )
    vectors = np.random.default_rng(0).normal(size=[33, 4]).astype(np.float32)

    def rows():
        ids = [f"{number}.png" for number in range(33)]
        labels = np.array([splits.NO_LABEL] * 30 + [0, 1, 0])
        for split, of in (("unlabelled", slice(30)), ("train", slice(30, 32)), ("test", slice(32, 33))):
            yield Rows(Part(split, ids[of], labels[of], vectors[of], []), ids[of], CLASSES)

    formats.write(path, str(tmp_path / "unfinished"), description, rows())
    return path


def write(folder: Path, *lines: str) -> str:
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "labels.csv")


def test_the_table_holds_the_labels_so_far_and_lines_to_complete_and_is_the_next_ones_labels(tmp_path, embeddings):
    labels = write(tmp_path, "file,label", "1.png,cat", '2.png,"dog, small"', "3.png,", "30.png,cat")
    out, page = tmp_path / "more.csv", tmp_path / "page.html"
    found = suggestion.suggest(embeddings, 5, labels, str(out), seed=0, page=str(page))
    assert (found.rule, found.labelled, found.unlabelled) == ("typicality", 4, 28)
    with out.open(newline="") as file:
        rows = list(csv.reader(file))
    known = [["1.png", "cat", ""], ["2.png", "dog, small", ""], ["30.png", "cat", ""]]
    assert rows == [["file", "label", "split"], *known, *([name, "", "train"] for name in found.files)]
    assert len(set(found.files)) == 5
    assert not {"1.png", "2.png", "30.png", "31.png", "32.png"} & set(found.files)
    assert [name for name in found.files if f"<small>{name}</small>" not in page.read_text()] == []
    parsed = labels_file.parse(str(out), out.read_bytes())
    assert [row.label for row in parsed.values()] == ["cat", "dog, small", "cat", *[""] * 5]
    # Without a single new label, the next call suggests the same images.
    assert suggestion.suggest(embeddings, 5, str(out), None, seed=0) == found


def test_with_enough_labels_a_probe_decides_and_images_to_test_on_have_no_say(tmp_path, embeddings, monkeypatch):
    monkeypatch.setattr(label_choice, "ENOUGH_LABELS", 11)
    known = [f"{number}.png,{CLASSES[number % 2]},train" for number in range(20)]
    fitted = write(tmp_path, "file,label,split", *known)
    before = suggestion.suggest(embeddings, 4, fitted, None, seed=0)
    assert (before.rule, before.labelled) == ("margin", 22)
    # A test image that has the wrong label would change the probe.
    tested = write(tmp_path, "file,label,split", *known, *(f"{number}.png,dog,Test" for number in range(20, 24)))
    found = suggestion.suggest(embeddings, 6, tested, None, seed=0)
    assert (found.rule, found.labelled, set(found.files)) == ("margin", 22, {f"{n}.png" for n in range(24, 30)})
    assert [name for name in before.files if name in found.files] == [
        name for name in found.files if name in before.files
    ]


@pytest.mark.parametrize(
    ("lines", "kind", "message"),
    [
        (
            ["file,label", "a.png,cat", "1.png,cat"],
            DataError,
            r"names 1 images that are not in .*e\.parquet, .* a\.png",
        ),
        (["file,label", "31.png,cat"], DataError, r"line 2, gives 31\.png the label 'cat', and .* the label 'dog'"),
        (["name,class", "1.png,cat"], DataError, r"its first line must be file,label"),
        (["file,label", *(f"{n}.png,cat" for n in range(28))], SettingsError, r"2 images without a label, and -n is 3"),
    ],
)
def test_labels_that_do_not_fit_the_embeddings_are_refused(tmp_path, embeddings, lines, kind, message):
    with pytest.raises(kind, match=message):
        suggestion.suggest(embeddings, 3, write(tmp_path, *lines), None, seed=0)


def test_a_table_that_exists_is_never_replaced_and_missing_labels_are_named(tmp_path, embeddings):
    labels = write(tmp_path, "file,label", "1.png,cat")
    with pytest.raises(SettingsError, match=r"labels\.csv already exists"):
        suggestion.suggest(embeddings, 3, labels, labels, seed=0)
    with pytest.raises(SettingsError, match=r"picture\.png does not end in \.csv"):
        suggestion.suggest(embeddings, 3, labels, str(tmp_path / "picture.png"), seed=0)
    with pytest.raises(SettingsError, match=r"nowhere\.csv does not exist"):
        suggestion.suggest(embeddings, 3, str(tmp_path / "nowhere.csv"), None, seed=0)
