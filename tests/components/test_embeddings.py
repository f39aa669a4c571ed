"""Embeddings of whole sources: what is embedded, what is rejected, and the formats."""

import re
import tarfile
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.plugins.projector import projector_plugin

from components.artifact_files import DamagedFile
from components.embeddings import formats, parts
from components.embeddings.description import Description, Model
from components.embeddings.formats import Rows
from components.embeddings.parts import Part
from components.embeddings.transform import EmbedSource, part_names
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.rejections import Rejected
from components.image_example_gen.sources.opening import open_all
from components.image_example_gen.transforms import Shard
from tests.components import releases
from trainer import splits
from trainer.errors import SettingsError

SETTINGS = IngestSettings(image_size=32)
DESCRIPTION = Description(
    nnclr="0.1.0",
    model=Model(name="encoder", version=3, sha256="c0ffee" * 10),
    image_size=(32, 32),
    source="/pictures",
    fingerprint="f00d",
    settings={"image_size": 32},
    class_names=("cat", "dog"),
    count=3,
    length=2,
)
VECTORS = np.array([[1, 2], [3, 4], [0.1, -5]], np.float32)


def rows():
    labels = np.array([splits.NO_LABEL, splits.NO_LABEL])
    yield Rows(Part("unlabelled", ["a.png", "é\t.png"], labels, VECTORS[:2], []), ["/pictures/a.png", None], ())
    yield Rows(Part("test", ["b.png"], np.array([1]), VECTORS[2:], []), ["/pictures/b.png"], ("cat", "dog"))


def write(path: str, description: Description, rows) -> None:
    formats.write(path, str(Path(path).parent / "unfinished"), description, rows)


def embed(source, model: str, out: Path, size=(32, 32), settings=SETTINGS, finished=frozenset()) -> list[Part]:
    with beam.Pipeline(runner="DirectRunner") as pipeline:
        _ = pipeline | EmbedSource(source, settings, model, size, str(out), finished)
    return [parts.read(f"{out}/{name}") for name in part_names(source, settings) if (out / name).exists()]


def save_embedder(directory: Path, embed_pixels) -> str:
    """Saves a function of pixels, float32 [N, h, w, 3], as an encoder."""
    module = tf.Module()
    module.embed = tf.function(
        lambda pixels: {"embeddings": embed_pixels(tf.cast(pixels, tf.float32))},
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="pixels")],
    )
    tf.saved_model.save(module, str(directory), signatures={"embed_pixels": module.embed})
    return str(directory)


def test_parquet_has_ids_paths_labels_vectors_and_what_they_are_of(tmp_path):
    path = str(tmp_path / "e.parquet")
    write(path, DESCRIPTION, rows())
    table = pq.read_table(path)
    assert table.drop(["embedding"]).to_pylist() == [
        {"id": "a.png", "path": "/pictures/a.png", "split": "unlabelled", "label": None, "class": None},
        {"id": "é\t.png", "path": None, "split": "unlabelled", "label": None, "class": None},
        {"id": "b.png", "path": "/pictures/b.png", "split": "test", "label": 1, "class": "dog"},
    ]
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[2]"
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), VECTORS)
    assert formats.read_description(path) == DESCRIPTION


def test_npz_has_the_same_arrays(tmp_path):
    path = str(tmp_path / "e.npz")
    write(path, DESCRIPTION, rows())
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["embedding"], VECTORS)
        assert arrays["embedding"].dtype == np.float32
        assert arrays["id"].tolist() == ["a.png", "é\t.png", "b.png"]
        assert arrays["path"].tolist() == ["/pictures/a.png", "", "/pictures/b.png"]
        assert (arrays["label"].tolist(), arrays["class"].tolist()) == ([-1, -1, 1], ["", "", "dog"])
    assert formats.read_description(path) == DESCRIPTION


def test_tensorboards_projector_reads_the_folder(tmp_path):
    folder = tmp_path / "e.projector"
    write(str(folder), DESCRIPTION, rows())
    config = projector_plugin.ProjectorConfig()
    projector_plugin.text_format.Parse((folder / "projector_config.pbtxt").read_text(), config)
    (embeddings,) = config.embeddings
    found = projector_plugin._read_tensor_tsv_file(str(folder / embeddings.tensor_path))
    np.testing.assert_array_equal(found, VECTORS)
    lines = (folder / embeddings.metadata_path).read_text().splitlines()
    assert lines == ["id\tsplit\tclass", "a.png\tunlabelled\t", "é .png\tunlabelled\t", "b.png\ttest\tdog"]
    # Written again, it is replaced.
    write(str(folder), DESCRIPTION, rows())
    assert formats.read_description(str(folder)) == DESCRIPTION
    assert [path.name for path in tmp_path.iterdir()] == ["e.projector"]


@pytest.mark.parametrize("name", ["e.parquet", "e.npz", "e.projector"])
def test_a_file_of_somebody_else_is_never_taken_for_embeddings(tmp_path, name):
    (tmp_path / name).write_bytes(b"a table of somebody else")
    with pytest.raises(SettingsError, match=f"{name} exists, and nnclr embed did not write it"):
        formats.read_description(str(tmp_path / name))


@pytest.mark.parametrize(
    ("place", "value"), [(-6, 2**20), (-6, 0), (-10, 7)], ids=["before the start", "after the end", "cut directory"]
)
def test_a_damaged_directory_of_a_zip_file_is_refused(tmp_path, place, value):
    path = tmp_path / "e.npz"
    write(str(path), DESCRIPTION, rows())
    content = bytearray(path.read_bytes())
    # The last bytes are the size and the position of the zip file's directory, and the length of a comment.
    content[place : place + 4 or None] = value.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"e\.npz exists, and nnclr embed did not write it"):
        formats.read_description(str(path))


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "e.parquet"
    write(str(path), DESCRIPTION, rows())
    before = path.read_bytes()

    def interrupted():
        yield next(rows())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(str(path), DESCRIPTION.model_copy(update={"count": 9}), interrupted())
    assert path.read_bytes() == before
    write(str(path), DESCRIPTION, rows())
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["e.parquet"]


@pytest.mark.long
def test_embeddings_of_an_archive_are_those_of_its_images_and_finished_parts_are_kept(tmp_path, stl10_directory):
    archive = tmp_path / "stl10.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(stl10_directory, "stl10_binary")
    model = releases.export_model(tmp_path / "model", seed=1)
    settings = IngestSettings(image_size=96)
    source = open_all(str(archive), settings)
    found = embed(source, model, tmp_path / "parts", settings=settings)
    assert [(part.split, len(part.ids)) for part in found] == [("unlabelled", 30), ("train", 20), ("test", 10)]
    directory = embed(open_all(str(stl10_directory), settings), model, tmp_path / "directory", settings=settings)
    for one, other in zip(found, directory, strict=True):
        np.testing.assert_array_equal(one.vectors, other.vectors)
        np.testing.assert_array_equal(one.labels, other.labels)
    (name, *_) = part_names(source, settings)
    kept = (tmp_path / "parts" / name).stat().st_mtime_ns
    again = embed(source, model, tmp_path / "parts", settings=settings, finished=frozenset({name}))
    assert (tmp_path / "parts" / name).stat().st_mtime_ns == kept
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.vectors, other.vectors)


def test_each_picture_is_embedded_in_the_size_of_the_encoder_or_rejected_with_a_reason(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    # The encoder sees the mean of each channel, and divides by that of red.
    model = save_embedder(tmp_path / "model", lambda pixels: tf.reduce_mean(pixels, [1, 2]) / pixels[:, 0, 0, :1])
    Image.new("RGB", (80, 40), (10, 20, 30)).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no picture")
    Image.new("RGB", (40, 40), (0, 20, 30)).save(folder / "c.png")
    Image.new("RGB", (24, 40), (50, 20, 30)).save(folder / "d.png")
    settings = IngestSettings(image_size=31, stored_size=40)
    (part,) = embed(open_all(str(folder), settings), model, tmp_path / "parts", (20, 40), settings)
    assert part.ids == ["a.png", "d.png"]
    np.testing.assert_allclose(part.vectors, [[1, 2, 3], [1, 0.4, 0.6]], rtol=1e-5)
    assert part.vectors.dtype == np.float32
    assert [(each.id, each.reason) for each in part.rejected] == [
        ("b.png", "cannot identify image file"),
        ("c.png", "its embedding is not finite"),
    ]


@pytest.mark.long
def test_parts_without_pictures_and_unfinished_parts(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "b.png").write_bytes(b"no picture")
    model = releases.export_model(tmp_path / "model", seed=1)
    (part,) = embed(open_all(str(folder), SETTINGS), model, tmp_path / "parts")
    assert (part.ids, part.vectors.size, len(part.rejected)) == ([], 0, 1)
    (tmp_path / "parts" / f".{parts.name_of(Shard('test', 0, 1))}.{'0' * 32}.partial").touch()
    assert parts.finished(str(tmp_path / "parts")) == {"unlabelled-00000-of-00001.npz"}
    assert parts.finished(str(tmp_path / "nowhere")) == frozenset()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            {"model": Model(name="encoder", version=4, sha256="ba11")},
            "of encoder version 3 .*, not of encoder version 4",
        ),
        ({"source": "/others"}, "of the images in /pictures, not in /others"),
        ({"fingerprint": "beef"}, "of images in /pictures that have changed since"),
        ({"settings": {"image_size": 64}}, "made with other values of data.image_size"),
        ({"nnclr": "0.2.0"}, "made by nnclr 0.1.0, not 0.2.0"),
    ],
)
def test_what_must_not_be_mixed_is_named(change, named):
    (difference,) = DESCRIPTION.differences(DESCRIPTION.model_copy(update=change))
    assert re.search(named, difference)
    assert DESCRIPTION.differences(DESCRIPTION.model_copy(update={"count": 0, "length": 0})) == []


def test_rejected_pictures_survive_in_their_part(tmp_path):
    part = Part("test", ["a"], np.array([0]), VECTORS[:1], [Rejected("test", "b", "cut off")])
    parts.write(str(tmp_path / "part.npz"), part)
    found = parts.read(str(tmp_path / "part.npz"))
    assert (found.split, found.ids, found.rejected) == (part.split, part.ids, part.rejected)


@pytest.mark.parametrize("content", [b"", b"text", "cut off", "another file", "no JSON"])
def test_a_damaged_part_is_named(tmp_path, content):
    path = tmp_path / "part.npz"
    parts.write(str(path), Part("test", ["a"], np.array([1]), VECTORS[:1], []))
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut off":
        path.write_bytes(path.read_bytes()[:-30])
    else:
        arrays = {"labels": [1], "vectors": [[1.0]], "texts": "{"} if content == "no JSON" else {"a": [1]}
        np.savez(path, **arrays)
    with pytest.raises(DamagedFile, match=rf"^{path} is damaged: restore it, or delete it and create it again\.$"):
        parts.read(str(path))
