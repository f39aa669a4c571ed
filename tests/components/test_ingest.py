"""Ingest with real Beam, from a source to TFRecords."""

import io
import json
import os
import shutil
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.testing.util import assert_that, equal_to
from PIL import Image

from components.image_example_gen import artifact, decoding, duplicates, encoding, transforms
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.fingerprint import fingerprint
from components.image_example_gen.ingest import ingest
from components.image_example_gen.sources.base import Picture
from components.image_example_gen.sources.opening import open_source
from tests import unprivileged
from tests.components.test_files import put
from trainer import data, failures, survey
from trainer.errors import DataError


def runner() -> beam.Pipeline:
    return beam.Pipeline("FnApiRunner")


def records(directory: Path, split: str) -> dict[str, tf.train.Example]:
    """Reads the examples of a split by id, in the order of the files."""
    found = {}
    for path in sorted((directory / f"Split-{split}").iterdir()):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            example = tf.train.Example.FromString(record)
            found[example.features.feature["id"].bytes_list.value[0].decode()] = example
    return found


def pixels(example: tf.train.Example) -> np.ndarray:
    feature = example.features.feature
    shape = [feature[name].int64_list.value[0] for name in ("height", "width")]
    return np.frombuffer(feature["image"].bytes_list.value[0], np.uint8).reshape(*shape, 3)


@pytest.fixture
def small_blocks(monkeypatch):
    """Puts seven images into a shard, so that a few images make several shards."""
    monkeypatch.setattr(transforms, "_MOST_IMAGES_PER_BLOCK", 7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(5):
        path = tmp_path / "folder" / "unlabelled" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (i, i, i)).save(path)
    return tmp_path / "folder"


@pytest.mark.usefixtures("small_blocks")
def test_every_image_arrives_unchanged_with_its_features(stl10_directory, stl10_images, tmp_path):
    out = tmp_path / "examples"
    ingest(open_source(str(stl10_directory)), "f00d", IngestSettings(image_size=96), str(out), runner)
    for split, images in stl10_images.items():
        found = records(out, split)
        assert list(found) == [f"{split}/{i:06d}" for i in range(len(images))]
        for i, example in enumerate(found.values()):
            feature = example.features.feature
            np.testing.assert_array_equal(pixels(example), images[i])
            assert feature["label"].int64_list.value == [-1 if split == "unlabelled" else i % 10]
            assert list(feature["fold"].int64_list.value) == ([i % 10] if split == "train" else [])
            assert feature["pixel_mean"].float_list.value[0] == pytest.approx(images[i].mean() / 255, abs=1e-5)
            assert feature["pixel_std"].float_list.value[0] == pytest.approx(images[i].std() / 255, abs=1e-5)
    names = sorted(path.name for path in (out / "Split-unlabelled").iterdir())
    assert names == [f"data_tfrecord-{i:05d}-of-00005" for i in range(5)]
    assert artifact.read(str(out)).counts == {"unlabelled": 30, "train": 20, "test": 10}
    assert not (out / "partial").exists()


@pytest.mark.parametrize("size", [1, 96, 1024])
@pytest.mark.parametrize("low", [0, 250, 255])
def test_mean_and_deviation_are_exact_at_every_size_and_for_flat_images(size, low):
    image = np.random.default_rng(0).integers(low, 256, (size, size, 3)).astype(np.uint8)
    picture = Picture("train", 0, "train/000000", image, 3)
    feature = tf.train.Example.FromString(encoding.to_example(picture, image)).features.feature
    values = image.astype(np.float64) / 255
    assert feature["pixel_mean"].float_list.value[0] == pytest.approx(values.mean(), rel=1e-6)
    assert feature["pixel_std"].float_list.value[0] == pytest.approx(values.std(), rel=1e-6, abs=1e-12)


def test_figures_for_the_gate_are_those_of_the_picture_and_of_its_pixels(tmp_path):
    (tmp_path / "pictures" / "unlabelled").mkdir(parents=True)
    half_red = np.zeros([64, 96, 3], np.uint8)
    half_red[:, 48:] = (255, 0, 0)
    texture = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8).repeat(11, 0).repeat(11, 1)[:64, :64]
    pictures = {"plain": np.full([40, 80, 3], 90, np.uint8), "red": half_red, "texture": texture}
    for name, image in pictures.items():
        Image.fromarray(image).save(tmp_path / "pictures" / "unlabelled" / f"{name}.png")
    ingest(
        open_source(str(tmp_path / "pictures")), "f00d", IngestSettings(image_size=64), str(tmp_path / "out"), runner
    )
    plain, red, textured = (
        {
            name: list(getattr(feature, feature.WhichOneof("kind")).value)
            for name, feature in example.features.feature.items()
        }
        for _, example in sorted(records(tmp_path / "out", "unlabelled").items())
    )
    assert (plain["source_height"], plain["source_width"]) == ([40], [80])
    assert (red["source_height"], red["source_width"], red["height"]) == ([64], [96], [64])
    colours = ("contrast", "saturation", "red_green", "yellow_blue", "smoothness")
    assert [plain[name] for name in colours] == [[0.0], [0.0], [0.0], [0.0], [1.0]]
    # Half of the pixels have one channel at its maximum: their brightness is a third of white's. Of the 63 steps from a
    # pixel to its right neighbour, one is 255; the variance is 127.5 squared.
    assert [red[name][0] for name in colours] == pytest.approx([1 / 6, 1 / 2, 1 / 2, 1 / 4, 1 - 4 / (2 * 63)])
    assert plain["look_hash"] == red["look_hash"] == []
    assert len({*plain["exact_hash"], *red["exact_hash"], *textured["exact_hash"]}) == 3
    exact, look = (f"{hashes[0]:016x}".encode() for hashes in duplicates.hashes(texture[np.newaxis]).values())
    assert (textured["exact_hash"], textured["look_hash"]) == ([exact], [look])


def test_the_size_of_a_picture_is_that_of_its_file_although_it_is_decoded_at_a_part_of_it():
    file = io.BytesIO()
    Image.new("RGB", (640, 480)).save(file, "JPEG")
    picture = Picture("train", 0, "train/000000", file.getvalue(), 3)
    assert encoding.decode(picture, 32).shape == (120, 160, 3)
    assert encoding.source_size(picture) == (480, 640)


@pytest.mark.usefixtures("small_blocks")
def test_archive_and_directory_make_the_same_files(stl10_directory, tmp_path):
    import tarfile

    archive = tmp_path / "stl10_binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(stl10_directory, "stl10_binary")
    contents = []
    for source in (stl10_directory, archive):
        out = tmp_path / f"from-{source.name}"
        ingest(open_source(str(source)), "f00d", IngestSettings(image_size=48), str(out), runner)
        contents.append({p.relative_to(out): p.read_bytes() for p in out.rglob("data_tfrecord*")})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 5 + 3 + 2


def test_images_are_fitted_to_the_configured_size(stl10_directory, tmp_path):
    ingest(open_source(str(stl10_directory)), "f00d", IngestSettings(image_size=32), str(tmp_path / "out"), runner)
    assert {pixels(e).shape for e in records(tmp_path / "out", "test").values()} == {(32, 32, 3)}


def test_undecodable_pictures_fail_with_their_names_the_reasons_and_the_setting(folder, tmp_path):
    whole = (folder / "unlabelled" / "2.png").read_bytes()
    (folder / "unlabelled" / "2.png").write_bytes(whole[:50])
    (folder / "unlabelled" / "4.png").write_bytes(b"<html>")
    with pytest.raises(DataError) as error:
        ingest(open_source(str(folder)), "f00d", IngestSettings(image_size=32), str(tmp_path / "out"), runner)
    message = str(error.value)
    assert message.startswith("2 pictures cannot be decoded, 0 are allowed: unlabelled/2.png (")
    assert "unlabelled/4.png (cannot identify image file" in message
    assert "--set data.max_rejected=2" in message


def test_tolerated_pictures_are_listed_with_reasons_and_the_others_ingested(folder, tmp_path):
    (folder / "unlabelled" / "4.png").write_bytes(b"<html>")
    out = tmp_path / "out"
    ingest(open_source(str(folder)), "f00d", IngestSettings(image_size=32, max_rejected=1), str(out), runner)
    assert list(records(out, "unlabelled")) == [f"unlabelled/{i}.png" for i in range(4)]
    (row,) = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert (row["split"], row["id"]) == ("unlabelled", "unlabelled/4.png")
    assert "cannot identify" in row["reason"]
    assert artifact.read(str(out)).rejected == 1


def test_a_picture_without_permission_is_rejected_by_that_reason():
    with unprivileged.folder() as root:
        for name in ("a", "b"):
            path = root / "folder" / "unlabelled" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40)).save(path)
        path.chmod(0)
        (root / "out").mkdir()
        (root / "out").chmod(0o777)
        with unprivileged.user():
            source = open_source(str(root / "folder"))
            with pytest.raises(DataError, match=r"0 are allowed: unlabelled/b\.png \(permission denied\)"):
                ingest(source, fingerprint(source), IngestSettings(image_size=32), str(root / "out" / "1"), runner)
            tolerant = IngestSettings(image_size=32, max_rejected=1)
            dataset = ingest(source, fingerprint(source), tolerant, str(root / "out" / "2"), runner)
        assert (dataset.counts["unlabelled"], dataset.rejected) == (1, 1)


@pytest.mark.usefixtures("quick_retries")
def test_storage_that_fails_is_no_bad_picture(watched_bucket, folder, tmp_path):
    bucket, proxy = watched_bucket
    put(bucket, {f"unlabelled/{path.name}": path.read_bytes() for path in (folder / "unlabelled").iterdir()})
    source = open_source(bucket)
    tolerant = IngestSettings(image_size=32, max_rejected=5)
    proxy.down = True
    with pytest.raises(Exception) as error:  # noqa: PT011 - Beam chooses the class
        ingest(source, fingerprint(source), tolerant, str(tmp_path / "out"), runner)
    told = failures.as_user_error(error.value)
    assert isinstance(told, DataError)
    assert f"{bucket}/unlabelled/0.png cannot be used: the storage at {proxy.url}" in str(told)
    proxy.down, proxy.faulty = False, True
    assert ingest(source, fingerprint(source), tolerant, str(tmp_path / "again"), runner).rejected == 0
    assert proxy.met


def test_a_source_that_changes_while_it_is_read_is_not_ingested(folder, tmp_path, monkeypatch):
    source = open_source(str(folder))
    listed = fingerprint(source)
    fit = encoding.fit

    def edited(image, size):
        Image.new("RGB", (40, 40), (99, 0, 0)).save(folder / "unlabelled" / "0.png")
        return fit(image, size)

    monkeypatch.setattr(encoding, "fit", edited)
    with pytest.raises(DataError, match=r"0\.png changed while the source was read"):
        ingest(source, listed, IngestSettings(image_size=32), str(tmp_path / "out"), runner)
    assert not artifact.is_artifact(str(tmp_path / "out"))


def test_split_with_only_undecodable_pictures_is_refused(folder, tmp_path):
    for path in (folder / "unlabelled").iterdir():
        path.write_bytes(b"no")
    with pytest.raises(DataError, match="none of the 5 pictures of the split unlabelled can be decoded"):
        ingest(
            open_source(str(folder)),
            "f00d",
            IngestSettings(image_size=32, max_rejected=5),
            str(tmp_path / "out"),
            runner,
        )


def test_decompression_bomb_is_rejected(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MOST_PIXELS", 1_000)
    with pytest.raises(DataError, match="40x40 is more than 1,000 pixels"):
        ingest(open_source(str(folder)), "f00d", IngestSettings(image_size=32), str(tmp_path / "out"), runner)


def test_folder_without_labels_has_empty_labelled_splits(folder, tmp_path):
    ingest(open_source(str(folder)), "f00d", IngestSettings(image_size=32), str(tmp_path / "out"), runner)
    assert artifact.read(str(tmp_path / "out")).counts == {"unlabelled": 5, "train": 0, "test": 0}
    assert records(tmp_path / "out", "train") == {}
    assert len(list((tmp_path / "out" / "Split-train").iterdir())) == 1


def test_read_images_gives_blocks_and_rejects_as_transforms(folder):
    (folder / "unlabelled" / "0.png").write_bytes(b"no")
    source = open_source(str(folder))
    with runner() as pipeline:
        read = pipeline | beam.Create(source.work(3)) | transforms.ReadImages(source, IngestSettings(image_size=32), 3)
        blocks = read | beam.Map(lambda block: (block.shard.file_name, [row.picture.id for row in block.rows]))
        assert_that(
            blocks,
            equal_to(
                [
                    ("data_tfrecord-00000-of-00002", ["unlabelled/1.png", "unlabelled/2.png"]),
                    ("data_tfrecord-00001-of-00002", ["unlabelled/3.png", "unlabelled/4.png"]),
                ]
            ),
            label="Blocks",
        )
        rejected = read | beam.FlatMap(lambda block: [(picture.split, picture.id) for picture in block.rejected])
        assert_that(rejected, equal_to([("unlabelled", "unlabelled/0.png")]), label="Rejected")


def test_writing_a_shard_again_leaves_one_whole_file(tmp_path):
    shard = transforms.Shard("train", 0, 1)
    image = np.zeros((4, 4, 3), np.uint8)
    written = [encoding.to_example(Picture("train", i, str(i), image, i), image) for i in range(2)]
    for _ in range(2):
        assert transforms.write_shard((shard, written), str(tmp_path)).file.survey.records == 2
    (path,) = (tmp_path / "Split-train").iterdir()
    assert list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) == written


def test_training_reads_no_records_to_survey_what_was_ingested_until_a_file_changes(stl10_directory, tmp_path):
    out = tmp_path / "out"
    ingest(open_source(str(stl10_directory)), "f00d", IngestSettings(image_size=32), str(out), runner)
    files = {split: sorted(str(path) for path in (out / f"Split-{split}").iterdir()) for split in ("train", "test")}
    listed = survey.known(files["train"] + files["test"])
    assert set(listed) == {file for each in files.values() for file in each}
    quick = data.survey(files["train"], labelled=True)
    # Without the list, all records are read, with the same result.
    (out / survey.FILE_NAME).rename(tmp_path / "list")
    assert survey.known(files["train"]) == {}
    assert data.survey(files["train"], labelled=True) == quick
    assert quick.labels == (0, 9)
    shutil.copy(tmp_path / "list", out / survey.FILE_NAME)
    # Changed files are read, whether or not the change shows in their length.
    first, *_ = files["train"]
    content = Path(first).read_bytes()
    listed_at = (out / survey.FILE_NAME).stat().st_mtime_ns
    Path(first).write_bytes(content[:-1])
    os.utime(first, ns=(listed_at, listed_at))
    assert first not in survey.known(files["train"])
    with pytest.raises(DataError, match="is damaged, cut off or compressed"):
        data.survey(files["train"])
    Path(first).write_bytes(content[::-1])
    # TensorFlow knows times in seconds.
    os.utime(first, ns=(listed_at + 10**9, listed_at + 10**9))
    assert first not in survey.known(files["train"])


def test_tfds_stl10_as_tfds_prepares_it(stl10_directory, stl10_images, tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    # The builder is real; only its download is replaced by the unpacked directory.
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    stl10_directory.rename(unpacked / "stl10_binary")
    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", lambda self, url: str(unpacked))
    tfds.builder("stl10", data_dir=str(tmp_path / "tfds")).download_and_prepare()
    source = open_source(str(tmp_path / "tfds"))
    assert source.kind == "tfds stl10"
    ingest(source, "f00d", IngestSettings(image_size=96), str(tmp_path / "out"), runner)
    for split, images in stl10_images.items():
        found = records(tmp_path / "out", split)
        # TFDS shuffles when it prepares the data, so the order is not compared.
        assert sorted(pixels(e).tobytes() for e in found.values()) == sorted(image.tobytes() for image in images)
        labels = {pixels(e).tobytes(): e.features.feature["label"].int64_list.value[0] for e in found.values()}
        for i, image in enumerate(images):
            assert labels[image.tobytes()] == (-1 if split == "unlabelled" else i % 10)


@pytest.mark.parametrize("encoding_name", ["raw", "jpeg"])
def test_stored_images_keep_their_aspect_ratio_and_are_never_enlarged(tmp_path, encoding_name):
    smooth = Image.linear_gradient("L").convert("RGB")
    for name, shape in {"wide": (120, 80), "tall": (60, 90), "small": (40, 33)}.items():
        path = tmp_path / "folder" / "unlabelled" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth.resize(shape).save(path)
    settings = IngestSettings(image_size=32, stored_size=48, encoding=encoding_name)
    ingest(open_source(str(tmp_path / "folder")), "f00d", settings, str(tmp_path / "out"), runner)
    found = records(tmp_path / "out", "unlabelled")
    sizes = {}
    for name, example in found.items():
        feature = example.features.feature
        sizes[name] = tuple(feature[side].int64_list.value[0] for side in ("width", "height"))
        assert feature["image_size"].int64_list.value[0] == 32
        stored = feature["image"].bytes_list.value[0]
        assert stored.startswith(b"\xff\xd8") == (encoding_name == "jpeg")
    assert sizes == {
        "unlabelled/wide.png": (72, 48),
        "unlabelled/tall.png": (48, 72),
        "unlabelled/small.png": (40, 33),
    }
    if encoding_name == "raw":
        with Image.open(tmp_path / "folder" / "unlabelled" / "small.png") as small:
            np.testing.assert_array_equal(pixels(found["unlabelled/small.png"]), np.asarray(small))
    assert artifact.read(str(tmp_path / "out")).stored_size == 48


def test_a_large_jpeg_photograph_is_decoded_at_a_fraction_of_its_size():
    photograph = Image.effect_noise((4000, 3000), 60).resize((400, 300)).resize((4000, 3000)).convert("RGB")
    file = io.BytesIO()
    photograph.save(file, "JPEG", quality=90)
    assert decoding.decode_file(file.getvalue()).shape == (3000, 4000, 3)
    reduced = decoding.decode_file(file.getvalue(), 96)
    assert reduced.shape == (375, 500, 3)
    # The difference is that of two antialiasing filters.
    difference = np.abs(encoding.fit(reduced, 96).astype(int) - encoding.fit(np.asarray(photograph), 96))
    assert difference.mean() < 1.5
    # At less than four times the final size, nothing is lost.
    assert decoding.decode_file(file.getvalue(), 800).shape == (3000, 4000, 3)
