"""Which sources of images are accepted, and how errors in them are reported."""

import gzip
import shutil
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.image_example_gen import encoding, stl10
from components.image_example_gen.sources.opening import known_sources, open_labelled, open_source
from tests import unprivileged
from tests.components.test_files import put
from trainer.errors import DataError


def pack(directory: Path, archive: Path, names: list[str] | None = None, prefix: str = "stl10_binary/") -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        for name in names or [path.name for path in sorted(directory.iterdir())]:
            tar.add(directory / name, prefix + name)
    return archive


def pictures(source) -> dict[tuple[str, int], tuple]:
    """Reads all pictures of a source: decoded pixels, label, folds and id by split and index."""
    return {
        (p.split, p.index): (encoding.decode(p).tobytes(), p.label, p.folds, p.id)
        for work in source.work(7)
        for p in source.read(work)
    }


def save(path: Path, image: Image.Image, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    rng = np.random.default_rng(1)
    for name in ("a.jpg", "deep/er/b.png", "c.webp"):
        save(root / "unlabelled" / name, Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)))
    for split in ("train", "test"):
        for kind in ("cat", "dog"):
            save(root / split / kind / "x.png", Image.fromarray(rng.integers(0, 256, (50, 30, 3), np.uint8)))
    (root / "unlabelled" / "notes.txt").write_text("not a picture")
    return root


def test_stl10_directory_gives_every_image_with_its_label_folds_and_id(stl10_directory, stl10_images):
    source = open_source(str(stl10_directory))
    found = pictures(source)
    assert source.counts == {"unlabelled": 30, "train": 20, "test": 10}
    assert len(found) == 60
    assert found["train", 13] == (stl10_images["train"][13].tobytes(), 3, (3,), "train/000013")
    assert found["test", 9] == (stl10_images["test"][9].tobytes(), 9, (), "test/000009")
    assert found["unlabelled", 29] == (stl10_images["unlabelled"][29].tobytes(), -1, (), "unlabelled/000029")


def test_column_major_planes_are_read_as_rows_of_rgb():
    image = np.zeros((1, 96, 96, 3), np.uint8)
    image[0, 5, 70] = (1, 2, 3)
    stored = np.frombuffer(stl10.encode_images(image), np.uint8)
    # Plane by plane, column by column: column 70 starts at 70 * 96.
    assert [int(stored[plane * 96 * 96 + 70 * 96 + 5]) for plane in range(3)] == [1, 2, 3]
    np.testing.assert_array_equal(stl10.decode_images(stored.tobytes()), image)


@pytest.mark.parametrize("reverse", [False, True], ids=["sorted members", "members in reverse"])
def test_archive_gives_the_same_as_the_directory_in_any_order_of_members(stl10_directory, tmp_path, reverse):
    names = sorted((path.name for path in stl10_directory.iterdir()), reverse=reverse)
    archive = pack(stl10_directory, tmp_path / "stl10_binary.tar.gz", names)
    assert pictures(open_source(str(archive))) == pictures(open_source(str(stl10_directory)))


def test_archive_is_never_unpacked_whatever_the_names_of_its_members(stl10_directory, tmp_path):
    outside = tmp_path / "outside"
    archive = pack(stl10_directory, tmp_path / "evil.tar.gz", prefix=f"../../..{outside}/")
    before = set(tmp_path.rglob("*"))
    assert len(pictures(open_source(str(archive)))) == 60
    assert set(tmp_path.rglob("*")) == before


def test_archive_links_are_not_followed(stl10_directory, tmp_path):
    secret = stl10_directory / "train_X.bin"
    archive = tmp_path / "links.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in stl10_directory.iterdir():
            if path.name == "train_X.bin":
                link = tarfile.TarInfo("stl10_binary/train_X.bin")
                link.type, link.linkname = tarfile.SYMTYPE, str(secret)
                tar.addfile(link)
            else:
                tar.add(path, path.name)
    with pytest.raises(DataError, match=r"lacks train_X\.bin"):
        open_source(str(archive)).counts  # noqa: B018


def test_archive_cut_off_is_named(stl10_directory, tmp_path):
    archive = pack(stl10_directory, tmp_path / "stl10_binary.tar.gz")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(DataError, match=r"stl10_binary\.tar\.gz is damaged"):
        open_source(str(archive)).counts  # noqa: B018


def test_archive_in_another_format_is_named(tmp_path):
    archive = tmp_path / "stl10_binary.tar.gz"
    archive.write_bytes(gzip.compress(b"<html>not found</html>" * 100))
    with pytest.raises(DataError, match="damaged or not a tar file"):
        open_source(str(archive)).counts  # noqa: B018


def test_archive_damaged_within_the_pixels_is_named_when_they_are_read(stl10_directory, tmp_path):
    archive = pack(stl10_directory, tmp_path / "stl10_binary.tar.gz")
    source = open_source(str(archive))
    (work,) = source.work(7)
    whole = bytearray(archive.read_bytes())
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"stl10_binary\.tar\.gz is damaged"):
        list(source.read(work))
    # A changed pixel in a block that deflate stored uncompressed is revealed only by the checksum at the end.
    whole[len(whole) // 2] ^= 1
    archive.write_bytes(whole)
    with pytest.raises(DataError, match=r"stl10_binary\.tar\.gz is damaged"):
        list(source.read(work))


def test_archive_read_in_part_leaves_no_thread(stl10_directory, tmp_path):
    source = open_source(str(pack(stl10_directory, tmp_path / "stl10_binary.tar.gz")))
    (work,) = source.work(7)
    before = threading.active_count()
    pictures = source.read(work)
    next(pictures)
    pictures.close()
    assert threading.active_count() == before


def test_file_that_ends_within_an_image_is_reported_with_the_index(stl10_directory):
    path = stl10_directory / "unlabeled_X.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        DataError, match=r"unlabeled_X\.bin has 829439 bytes, which is not a multiple.* image with index 29"
    ):
        open_source(str(stl10_directory))


@pytest.mark.parametrize("label", [0, 11])
def test_label_outside_1_to_10_is_reported_with_file_and_index(stl10_directory, label):
    path = stl10_directory / "train_y.bin"
    path.write_bytes(path.read_bytes()[:6] + bytes([label]) + path.read_bytes()[7:])
    with pytest.raises(DataError, match=rf"train_y\.bin has the label {label} at index 6, outside 1\.\.10"):
        open_source(str(stl10_directory))


def test_different_numbers_of_images_and_labels_are_reported(stl10_directory):
    path = stl10_directory / "test_y.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DataError, match=r"test_y\.bin has 8 labels for the 10 images of test_X\.bin"):
        open_source(str(stl10_directory))


@pytest.mark.parametrize("name", stl10.FILES)
def test_missing_file_is_named(stl10_directory, name):
    (stl10_directory / name).unlink()
    with pytest.raises(DataError, match=rf"lacks {name}"):
        open_source(str(stl10_directory))


def test_empty_split_is_named(stl10_directory):
    (stl10_directory / "unlabeled_X.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"unlabeled_X\.bin has no images"):
        open_source(str(stl10_directory))


def test_fold_with_an_image_that_does_not_exist_is_reported_with_its_line(stl10_directory):
    (stl10_directory / "fold_indices.txt").write_text("0 1\n\n2 20\n" + "3\n" * 8)
    with pytest.raises(DataError, match=r"fold_indices\.txt, line 3, contains '20'.* 0 to 19"):
        open_source(str(stl10_directory))


def test_missing_or_empty_path_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "nowhere.tar.gz", "empty"):
        with pytest.raises(DataError, match=f"{name} does not exist or is empty"):
            open_source(str(tmp_path / name))


def test_unknown_source_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"PK")
    (tmp_path / "other" / "folder").mkdir(parents=True)
    (tmp_path / "other" / "folder" / "a.doc").write_bytes(b"")
    for name in ("images.zip", "other"):
        with pytest.raises(DataError, match=f"{name} is not a known source of images") as error:
            open_source(str(tmp_path / name))
        assert known_sources() in str(error.value)


def test_opening_an_archive_does_not_read_it(tmp_path):
    (tmp_path / "stl10_binary.tar.gz").write_bytes(b"damaged")
    assert open_source(str(tmp_path / "stl10_binary.tar.gz")).kind == "stl10 archive"
    assert open_labelled(str(tmp_path / "stl10_binary.tar.gz")).kind == "stl10 archive"


def test_another_kind_of_source_is_declared_by_an_entry_point(tmp_path, monkeypatch):
    (tmp_path / "my_sources.py").write_text(
        """
from components.image_example_gen.sources.base import StoredSource

class TextFiles(StoredSource):
    kind, description = "text files", "a folder of text files"
    counts, class_names = {"unlabelled": 1, "train": 0, "test": 0}, ()

    def __init__(self, path, listing, settings):
        self.path = path

    @classmethod
    def recognises(cls, path, names):
        return all(name.endswith(".txt") for name in names)

    def files(self):
        return {}

    def work(self, images):
        return []

    def read(self, work):
        return iter(())
"""
    )
    about = tmp_path / "my_sources-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-sources\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[nnclr.sources]\ntexts = my_sources:TextFiles\n")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("1")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert open_source(str(tmp_path / "texts")).kind == "text files"
    finally:
        sys.modules.pop("my_sources", None)


def test_folder_gives_pictures_of_all_kinds_with_classes_by_name(image_folder):
    source = open_source(str(image_folder))
    found = pictures(source)
    assert source.counts == {"unlabelled": 3, "train": 2, "test": 2}
    assert source.class_names == ("cat", "dog")
    assert [found["train", i][1] for i in (0, 1)] == [0, 1]
    assert {found["unlabelled", i][3] for i in range(3)} == {
        "unlabelled/a.jpg",
        "unlabelled/c.webp",
        "unlabelled/deep/er/b.png",
    }


def test_folder_may_have_wildcards_in_its_name(image_folder):
    odd = image_folder.rename(image_folder.with_name("my [1] pictures*"))
    assert open_source(str(odd)).counts == {"unlabelled": 3, "train": 2, "test": 2}
    assert len(pictures(open_source(str(odd)))) == 7


def test_folder_with_half_of_the_labels_is_refused(image_folder):
    for path in (image_folder / "test").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"labelled pictures of the split train but none .* of the split test"):
        open_source(str(image_folder))


def test_folder_with_a_single_class_is_refused(image_folder):
    for split in ("train", "test"):
        (image_folder / split / "dog" / "x.png").unlink()
    with pytest.raises(DataError, match="train has only the class cat"):
        open_source(str(image_folder))


def test_folder_with_a_class_only_in_test_is_refused(image_folder):
    save(image_folder / "test" / "emu" / "x.png", Image.new("RGB", (8, 8)))
    with pytest.raises(DataError, match=r"classes that .*train lacks: emu"):
        open_source(str(image_folder))


def test_folder_with_a_labelled_picture_outside_of_a_class_is_refused(image_folder):
    save(image_folder / "train" / "stray.png", Image.new("RGB", (8, 8)))
    with pytest.raises(DataError, match=r"train/stray\.png is not in the folder of a class"):
        open_source(str(image_folder))


def test_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "unlabelled").mkdir()
    (tmp_path / "unlabelled" / "a.txt").write_bytes(b"text")
    with pytest.raises(DataError, match="has no unlabelled pictures"):
        open_source(str(tmp_path))


def test_folder_without_labels_is_refused_for_the_evaluation(image_folder):
    assert open_labelled(str(image_folder)).counts == {"unlabelled": 0, "train": 2, "test": 2}
    for split in ("train", "test"):
        shutil.rmtree(image_folder / split)
    assert open_source(str(image_folder)).counts == {"unlabelled": 3, "train": 0, "test": 0}
    with pytest.raises(DataError, match=r"has no labelled pictures: evaluator\.data needs"):
        open_labelled(str(image_folder))


@pytest.mark.parametrize(
    ("mode", "fill", "expected"),
    [("L", 77, (77, 77, 77)), ("RGBA", (9, 8, 7, 0), (9, 8, 7)), ("I;16", 0x4D12, (0x4D, 0x4D, 0x4D))],
)
def test_grey_alpha_and_16_bit_become_rgb(tmp_path, mode, fill, expected):
    save(tmp_path / "unlabelled" / "a.png", Image.new(mode, (5, 4), fill))
    (picture,) = (p for w in open_source(str(tmp_path)).work(1) for p in open_source(str(tmp_path)).read(w))
    image = encoding.decode(picture)
    assert image.shape == (4, 5, 3)
    assert image.dtype == np.uint8
    assert tuple(image[0, 0]) == expected


def test_fit_resizes_the_shorter_side_and_crops_the_centre():
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = 200
    fitted = encoding.fit(wide, 20)
    assert fitted.shape == (20, 20, 3)
    # Only the middle third of the width remains.
    assert (fitted[:, 2:-2] == 200).all()


def test_buckets_give_the_same_as_the_disk_also_through_faults(
    stl10_directory, image_folder, tmp_path, watched_bucket, quick_retries
):
    bucket, proxy = watched_bucket
    archive = pack(stl10_directory, tmp_path / "stl10_binary.tar.gz")
    for path in (stl10_directory, image_folder):
        put(f"{bucket}/{path.name}", {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()})
    put(bucket, {archive.name: archive.read_bytes()})
    proxy.faulty = True
    for local in (stl10_directory, image_folder, archive):
        assert pictures(open_source(f"{bucket}/{local.name}")) == pictures(open_source(str(local)))
    assert sum(proxy.met.values()) > 10


def test_tensorflow_datasets_in_s3_are_refused(s3, tmp_path):
    put(f"s3://{s3}/{tmp_path.name}", {"stl10/3.0.0/dataset_info.json": b"{}"})
    with pytest.raises(DataError, match=r"s3://.* cannot be read: TensorFlow Datasets does not read s3://"):
        open_source(f"s3://{s3}/{tmp_path.name}")


def test_a_folder_of_pictures_without_permission_is_named():
    with unprivileged.folder() as root:
        for name in ("unlabelled/a.png", "unlabelled/secret/b.png"):
            save(root / name, Image.new("RGB", (8, 8)))
        (root / "unlabelled" / "secret").chmod(0)
        with unprivileged.user(), pytest.raises(DataError, match="unlabelled/secret cannot be listed"):
            open_source(str(root))
