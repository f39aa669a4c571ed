"""Which files of a folder are ingested, and that all others are counted with the reason."""

import collections
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.image_example_gen import artifact, decoding, encoding
from components.image_example_gen.config import IngestSettings, SplitShares
from components.image_example_gen.ingest import ingest
from components.image_example_gen.rejections import RejectedPictures
from components.image_example_gen.sources import exclusion
from components.image_example_gen.sources.opening import open_source
from components.image_example_gen.sources.picture_formats import PICTURE_FORMATS
from tests.components.test_ingest import records, runner
from trainer.errors import DataError, SettingsError

DIVIDED = IngestSettings(split=SplitShares(train=0.6, test=0.4))


def draw(path: Path, seed: int = 0, **options) -> None:
    """Saves a picture, different for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(small).resize((40, 40), Image.Resampling.BICUBIC).save(path, **options)


def labelled(root: Path, train: str = "train", test: str = "test") -> None:
    for split in (train, test):
        for name in ("cat", "dog"):
            draw(root / split / name / "x.png")


def left_out(source) -> dict[str, set[str]]:
    found = collections.defaultdict(set)
    for file in source.left_out:
        found[file.reason].add(file.name)
    return dict(found)


@pytest.mark.parametrize(
    ("unlabelled", "train", "test"),
    [("unlabeled", "Train", "TEST"), ("Unlabelled", "training", "Testing"), ("UNLABELED", "train", "test")],
)
def test_common_spellings_of_the_split_folders_are_understood(tmp_path, unlabelled, train, test):
    draw(tmp_path / unlabelled / "a.png")
    labelled(tmp_path, train, test)
    assert open_source(str(tmp_path)).counts == {"unlabelled": 1, "train": 2, "test": 2}


def test_two_folders_for_one_split_are_named(tmp_path):
    draw(tmp_path / "unlabelled" / "a.png")
    draw(tmp_path / "Unlabeled" / "b.png")
    with pytest.raises(DataError, match="has both Unlabeled/ and unlabelled/ for the split unlabelled"):
        open_source(str(tmp_path))


def test_a_validation_folder_instead_of_a_test_folder_is_named(tmp_path):
    draw(tmp_path / "unlabelled" / "a.png")
    labelled(tmp_path, test="val")
    with pytest.raises(DataError, match="If val/ is what to test on, rename it to test/"):
        open_source(str(tmp_path))


def test_every_file_that_is_not_ingested_has_a_reason(tmp_path):
    draw(tmp_path / "unlabelled" / "a.png")
    labelled(tmp_path)
    draw(tmp_path / "train" / "cat" / "deeper" / "y.jpg")
    draw(tmp_path / "train" / ".ipynb_checkpoints" / "x.png")
    draw(tmp_path / "unlabelled" / ".thumbs" / "a.png")
    for name in ("unlabelled/._a.png", "unlabelled/Thumbs.db", "unlabelled/notes.TXT", "unlabelled/README", "new.csv"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    draw(tmp_path / "cover.png")
    draw(tmp_path / "old" / "b.png")
    source = open_source(str(tmp_path))
    assert source.class_names == ("cat", "dog")
    assert source.counts == {"unlabelled": 1, "train": 3, "test": 2}
    assert left_out(source) == {
        "hidden": {"train/.ipynb_checkpoints/x.png", "unlabelled/.thumbs/a.png", "unlabelled/._a.png"},
        "not a picture: .db": {"unlabelled/Thumbs.db"},
        "not a picture: .txt": {"unlabelled/notes.TXT"},
        "not a picture: .csv": {"new.csv"},
        "not a picture: no ending": {"unlabelled/README"},
        "outside of unlabelled/, train/ and test/": {"cover.png", "old/b.png"},
    }


def test_linked_folders_are_followed_and_problems_have_reasons(tmp_path):
    draw(tmp_path / "store" / "a.png")
    (tmp_path / "root" / "unlabelled").mkdir(parents=True)
    (tmp_path / "root" / "unlabelled" / "more").symlink_to(tmp_path / "store")
    (tmp_path / "root" / "unlabelled" / "round").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "unlabelled" / "gone.png").symlink_to("nowhere.png")
    labelled(tmp_path / "root")
    (tmp_path / "root" / "train" / "emu").mkdir()
    source = open_source(str(tmp_path / "root"))
    assert source.counts == {"unlabelled": 1, "train": 2, "test": 2}
    assert left_out(source) == {
        "the link leads to a folder that contains it": {"unlabelled/round"},
        "the link leads nowhere": {"unlabelled/gone.png"},
        "the folder is empty": {"train/emu"},
    }


def test_a_folder_without_splits_is_unlabelled_and_one_level_too_high_is_named(tmp_path, stl10_directory):
    draw(tmp_path / "flat" / "a.png")
    draw(tmp_path / "flat" / "2024" / "may" / "b.png")
    assert open_source(str(tmp_path / "flat")).counts == {"unlabelled": 2, "train": 0, "test": 0}
    draw(tmp_path / "high" / "mine" / "unlabelled" / "a.png")
    labelled(tmp_path / "high" / "mine")
    with pytest.raises(DataError, match=r"high has no split folders, but .*high/mine has: name that folder instead"):
        open_source(str(tmp_path / "high"))
    (tmp_path / "parent").mkdir()
    stl10_directory.rename(tmp_path / "parent" / "stl10_binary")
    with pytest.raises(DataError, match=r"parent is not a known source of images, but .*parent/stl10_binary is"):
        open_source(str(tmp_path / "parent"))
    with pytest.raises(DataError, match=r"a\.png is not a known source of images: it is a single picture"):
        open_source(str(tmp_path / "flat" / "a.png"))


def test_class_names_in_both_normal_forms_are_one_class(tmp_path):
    draw(tmp_path / "unlabelled" / "a.png")
    for split, form in (("train", "NFD"), ("test", "NFC")):
        draw(tmp_path / split / unicodedata.normalize(form, "Käse") / "x.png")
        draw(tmp_path / split / "Brot" / "x.png")
    assert open_source(str(tmp_path)).class_names == ("Brot", "Käse")


def test_a_class_name_with_a_line_break_is_refused(tmp_path):
    draw(tmp_path / "unlabelled" / "a.png")
    labelled(tmp_path)
    draw(tmp_path / "train" / "a\nb" / "x.png")
    with pytest.raises(DataError, match=r"the class 'a\\nb', whose name has a line break"):
        open_source(str(tmp_path))


def test_names_of_files_cannot_change_a_terminal_or_add_lines(tmp_path):
    names = {"\x1b]0;x\x07.png": "\\x1b]0;x\\x07.png", "two\nlines.txt": "two\\nlines.txt", "ä 図\xa0.png": None}
    for name in names:
        draw(tmp_path / name, format="PNG")
    source = open_source(str(tmp_path))
    ids = [picture.id for work in source.work(10) for picture in source.read(work)]
    left_out = [file.name for file in source.left_out]
    assert sorted([*ids, *left_out]) == sorted(shown or name for name, shown in names.items())


def test_labels_csv_gives_class_and_split(tmp_path):
    for i in range(6):
        draw(tmp_path / "pictures" / f"{i}.png", i)
    table = "file,label,split\npictures/0.png,cat,train\npictures/1.png,dog,Train\n./pictures/2.png,cat,test\n"
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbf" + (table + "pictures/3.png,,\n").encode())
    source = open_source(str(tmp_path))
    assert source.counts == {"unlabelled": 3, "train": 2, "test": 1}
    assert source.class_names == ("cat", "dog")
    found = {p.id: (p.split, p.label) for work in source.work(10) for p in source.read(work)}
    assert found["pictures/1.png"] == ("train", 1)
    assert found["pictures/2.png"] == ("test", 0)
    assert found["pictures/3.png"] == found["pictures/4.png"] == ("unlabelled", -1)
    # The labels decide what is ingested.
    assert str(tmp_path / "labels.csv") in source.files()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,class\na.png,cat\n", "starts with the columns name, class"),
        ("file,label\na.png,cat,dog\n", "line 2, does not have 2 columns"),
        ("file,label,split\na.png,cat,dev\n", "line 2: the split 'dev' is unknown"),
        ("file,label,split\nb.png,cat,train\n", r"not pictures of the folder, such as b\.png"),
        ("file,label,split\na.png,cat,train\na.png,dog,train\n", r"line 3, names a\.png again.* has one label"),
    ],
)
def test_a_wrong_labels_csv_is_refused_with_its_line(tmp_path, table, message):
    draw(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path))


def test_labels_without_splits_are_divided_by_content(tmp_path):
    for i in range(40):
        draw(tmp_path / "cats" / f"{i}.png", i)
        draw(tmp_path / "dogs" / f"{i}.png", 100 + i)
        draw(tmp_path / f"{i}.png", 200 + i)
    # The same picture, compressed anew, under another class.
    for i in range(40):
        draw(tmp_path / "dogs" / f"cat{i}.jpg", i, quality=90)
    source = open_source(str(tmp_path), DIVIDED)
    assert source.class_names == ("cats", "dogs")
    assert source.counts["unlabelled"] == 40
    assert 48 <= source.counts["train"] <= 96
    split_of = {p.id: p.split for work in source.work(10) for p in source.read(work)}
    assert all(split_of[f"cats/{i}.png"] == split_of[f"dogs/cat{i}.jpg"] for i in range(40))
    # Further pictures change nothing, and neither do names.
    draw(tmp_path / "cats" / "new.png", 999)
    (tmp_path / "cats" / "0.png").rename(tmp_path / "cats" / "renamed.png")
    further = open_source(str(tmp_path), DIVIDED)
    split_after = {p.id: p.split for work in further.work(10) for p in further.read(work)}
    assert split_after["cats/renamed.png"] == split_of["cats/0.png"]
    assert all(split_after[name] == split for name, split in split_of.items() if name != "cats/0.png")


def test_labels_without_splits_and_without_shares_are_refused(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("file,label\na.png,cat\n")
    with pytest.raises(SettingsError, match=r"1 labelled pictures of .* have no split, such as a\.png"):
        open_source(str(tmp_path))


def test_excluded_files_are_counted_and_change_the_source(tmp_path):
    for i in range(4):
        draw(tmp_path / "pictures" / "unlabelled" / f"{i}.png", i)
    # A run on several spans lists its rejected pictures with the folder of the span.
    lines = ["unlabelled/0.png", "", '{"split": "", "id": "pictures/unlabelled/2.png", "reason": "cut"}', "gone.png"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    source = open_source(str(tmp_path / "pictures"), IngestSettings(exclude=str(tmp_path / "list.txt")))
    assert source.counts["unlabelled"] == 2
    assert left_out(source) == {
        "excluded": {"unlabelled/0.png", "unlabelled/2.png"},
        "in data.exclude, but not found": {"gone.png"},
    }
    assert not any(name.endswith("/0.png") for name in source.files())


@pytest.mark.parametrize("line", ["{", '{"name": "a.png"}', '{"id":' * 10_000], ids=["cut off", "no id", "nested"])
def test_a_line_without_the_name_of_a_file_is_named(line):
    with pytest.raises(DataError, match=r"list\.txt, line 2, is no JSON object with the field id: \{"):
        exclusion.parse("list.txt", f"a.png\n{line}\n".encode())


@pytest.mark.parametrize("kind", PICTURE_FORMATS)
def test_every_format_is_ingested(tmp_path, kind):
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    image = Image.new("RGB", (40, 30), (200, 100, 50))
    ending = PICTURE_FORMATS[kind][-1]
    (tmp_path / "unlabelled").mkdir()
    image.save(tmp_path / "unlabelled" / f"a{ending.upper()}", format=kind)
    ingest(open_source(str(tmp_path)), "f", IngestSettings(image_size=32), str(tmp_path / "out"), runner)
    (example,) = records(tmp_path / "out", "unlabelled").values()
    pixels = np.frombuffer(example.features.feature["image"].bytes_list.value[0], np.uint8)
    np.testing.assert_allclose(pixels.reshape(32, 32, 3)[16, 16], (200, 100, 50), atol=6)


def test_16_bits_are_scaled_and_other_depths_refused():
    def decoded(array: np.ndarray) -> np.ndarray:
        import io

        file = io.BytesIO()
        Image.fromarray(array).save(file, "TIFF")
        return decoding.decode_file(file.getvalue())

    assert decoded(np.full((4, 4), 0xABCD, np.uint16))[0, 0].tolist() == [0xAB] * 3
    assert decoded(np.full((4, 4), 0xABCD, np.int32))[0, 0].tolist() == [0xAB] * 3
    for wrong in (np.full((4, 4), 1 << 20, np.int32), np.full((4, 4), 0.5, np.float32)):
        with pytest.raises(decoding.Undecodable, match="convert it to 8 or 16 bits"):
            decoded(wrong)


@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1)])
def test_an_extremely_long_picture_is_cropped_before_it_is_enlarged(shape):
    long = np.zeros((*shape, 3), np.uint8)
    long[shape[0] // 2, shape[1] // 2] = 255
    fitted = encoding.fit(long, 64)
    assert fitted.shape == (64, 64, 3)
    assert fitted.max() > 100


def test_names_that_are_not_utf_8_are_ingested(tmp_path):
    draw(tmp_path / "unlabelled" / "a.png")
    (tmp_path / "unlabelled" / "a.png").rename(tmp_path / "unlabelled" / "caf\udce9.png")
    (tmp_path / "unlabelled" / "\udcff.txt").touch()
    out = tmp_path / "out"
    dataset = ingest(open_source(str(tmp_path)), "f", IngestSettings(image_size=32), str(out), runner)
    assert list(records(out, "unlabelled")) == ["unlabelled/caf\\xe9.png"]
    assert dataset.left_out == {"not a picture: .txt": 1}
    assert [json.loads(line)["id"] for line in (out / "rejected.jsonl").read_text().splitlines()] == [
        "unlabelled/\\xff.txt"
    ]


def test_what_was_left_out_and_rejected_is_one_list(tmp_path):
    draw(tmp_path / "unlabelled" / "a.png")
    (tmp_path / "unlabelled" / "b.png").write_bytes(b"no")
    (tmp_path / "unlabelled" / "c.txt").write_bytes(b"no")
    out = tmp_path / "out"
    source = open_source(str(tmp_path))
    with pytest.raises(RejectedPictures) as error:
        ingest(source, "f", IngestSettings(image_size=32), str(out), runner)
    ingest(source, "f", IngestSettings(image_size=32, max_rejected=1), str(out), runner)
    assert (out / "rejected.jsonl").read_text() == error.value.listing
    rows = [json.loads(line) for line in error.value.listing.splitlines()]
    assert [(row["split"], row["id"]) for row in rows] == [("unlabelled", "unlabelled/b.png"), ("", "unlabelled/c.txt")]
    assert artifact.read(str(out)).left_out == {"not a picture: .txt": 1}
