"""The exported encoder takes images as they come and gives the encoder's embeddings."""

import io
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from components.image_example_gen import encoding
from tests.trainer.conftest import mirrored
from trainer import export
from trainer.config import TrainerSettings
from trainer.encoders import build_encoder
from trainer.errors import SettingsError
from trainer.results import TrainingFigures

SETTINGS = TrainerSettings.model_validate({"encoder": {"width": 8}})


@pytest.fixture(scope="module")
def encoder() -> keras.Model:
    keras.utils.set_random_seed(5)
    return build_encoder(SETTINGS.encoder, (32, 32), "mixed_bfloat16")


@pytest.fixture(scope="module")
def exported(encoder, tmp_path_factory) -> str:
    directory = str(tmp_path_factory.mktemp("export") / "model")
    export.export_encoder(encoder, SETTINGS, (32, 32), directory, TrainingFigures(steps=3))
    return directory


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth, so that decoders and resizers agree closely."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    return (np.stack([y, x, (x + y) / 2], axis=-1) * 255).astype(np.uint8)


def encoded(image: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


def test_pixels_of_the_training_size_give_the_encoders_own_embeddings(encoder, exported):
    pixels = np.stack([photograph(32, 32), photograph(32, 32)[::-1]])
    plain = build_encoder(SETTINGS.encoder, (32, 32))
    plain.set_weights(encoder.get_weights())
    expected = plain(pixels.astype(np.float32) / 255).numpy()
    found = export.Embeddings.of_export(exported)(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_where_folders_cannot_be_renamed_a_model_is_there_when_all_its_files_are(
    encoder, exported, tmp_path, monkeypatch
):
    """The rename of a folder in a bucket is one of each file."""

    def files(folder: str) -> set[str]:
        return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}

    target, rename, seen = str(tmp_path / "model"), tf.io.gfile.rename, []

    def rename_file(source: str, destination: str) -> None:
        assert not Path(source).is_dir()
        seen.append((files(target), export.describe_if_any(target) is not None))
        rename(source, destination)

    monkeypatch.setattr(export.storage, "in_bucket", lambda path: True)
    monkeypatch.setattr(tf.io.gfile, "rename", rename_file)
    # What an interrupted export left is replaced.
    for _ in range(2):
        seen.clear()
        export.export_encoder(encoder, SETTINGS, (32, 32), target)
        assert files(target) == files(exported)
        assert len(seen) == len(files(target))
        assert not any("saved_model.pb" in present or described for present, described in seen)
        assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (45, 80), (20, 31)])
def test_encoded_images_of_any_size_are_fitted_as_ingest_fits_them(exported, height, width):
    image = photograph(height, width)
    serve = tf.saved_model.load(exported).signatures["serving_default"]
    found = serve(image_bytes=tf.constant([encoded(image, "PNG")] * 2))["embeddings"].numpy()
    expected = export.Embeddings.of_export(exported)(encoding.fit(image, 32)[np.newaxis])
    assert found.shape == (2, 8)
    # Pillow rounds to whole numbers between its two passes, TensorFlow does not.
    np.testing.assert_allclose(found[0], expected[0], atol=0.01 * np.abs(expected).max())


def test_batch_size_does_not_change_embeddings(exported):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), np.uint8)
    embeddings = export.Embeddings.of_export(exported)
    small = export.Embeddings.of_export(exported)
    small._batch = 3
    np.testing.assert_allclose(small(pixels), embeddings(pixels), rtol=1e-5, atol=1e-6)


def test_description_and_untrained_twin(exported, tmp_path):
    described = export.describe(exported)
    assert described.image_size == (32, 32)
    assert described.settings == SETTINGS
    assert described.training == TrainingFigures(steps=3)
    pixels = photograph(32, 32)[np.newaxis]
    for name in ("twin", "again"):
        export.export_untrained_twin(exported, str(tmp_path / name), seed=0)
        assert export.describe(str(tmp_path / name)).training is None
    twin = export.Embeddings.of_export(str(tmp_path / "twin"))
    assert twin(pixels).shape == (1, 8)
    np.testing.assert_array_equal(twin(pixels), export.Embeddings.of_export(str(tmp_path / "again"))(pixels))
    assert not np.allclose(twin(pixels), export.Embeddings.of_export(exported)(pixels))


NORM = TrainerSettings.model_validate({"encoder": {"width": 8, "batch_norm": True, "pooling": "average"}})


def normalised(seed: int) -> keras.Model:
    """With statistics that differ from those that it starts with."""
    keras.utils.set_random_seed(seed)
    network = build_encoder(NORM.encoder, (32, 32))
    network(np.random.default_rng(seed).normal(3, 2, (8, 32, 32, 3)).astype(np.float32), training=True)
    return network


@pytest.fixture(scope="module")
def exported_norm(tmp_path_factory) -> str:
    directory = str(tmp_path_factory.mktemp("norm") / "model")
    export.export_encoder(normalised(1), NORM, (32, 32), directory)
    return directory


def test_batch_norm_is_exported_with_its_statistics(exported_norm):
    pixels = np.stack([photograph(32, 32), photograph(32, 32)[::-1]])
    expected = normalised(1)(pixels.astype(np.float32) / 255).numpy()
    np.testing.assert_allclose(export.Embeddings.of_export(exported_norm)(pixels), expected, rtol=1e-4, atol=1e-5)


def test_warm_start_takes_all_weights_and_statistics_under_any_strategy(exported_norm, logical_cpus):
    with mirrored(logical_cpus[:2]).scope():
        fresh = build_encoder(NORM.encoder, (32, 32))
        export.load_weights(fresh, NORM, (64, 64), exported_norm)
    for found, expected in zip(fresh.get_weights(), normalised(1).get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_warm_start_from_another_architecture_is_refused_with_both(encoder, exported, exported_norm):
    with pytest.raises(
        SettingsError, match=r"(?s)is \(name convnet, width 8, batch_norm True.* needs .*batch_norm False"
    ):
        export.load_weights(encoder, SETTINGS, (32, 32), exported_norm)
    larger = build_encoder(SETTINGS.encoder, (48, 48))
    with pytest.raises(SettingsError, match=r"32x32 pixels\), and this training needs .*48x48 pixels"):
        export.load_weights(larger, SETTINGS, (48, 48), exported)


def test_warm_start_from_a_network_for_images_of_another_size_is_refused(tmp_path):
    settings = TrainerSettings.model_validate({"encoder": {"name": "resnet18", "width": 2}})
    export.export_encoder(build_encoder(settings.encoder, (32, 32)), settings, (32, 32), str(tmp_path / "small"))
    # From 128 pixels on, a ResNet has another stem.
    large = build_encoder(settings.encoder, (128, 128))
    with pytest.raises(SettingsError, match=r"trained on 32x32 pixels, do not fit the network for 128x128 pixels: set"):
        export.load_weights(large, settings, (128, 128), str(tmp_path / "small"))


def test_warm_start_from_nothing_is_refused(encoder, tmp_path):
    for start in (export.fingerprint, lambda directory: export.load_weights(encoder, SETTINGS, (32, 32), directory)):
        with pytest.raises(SettingsError, match=rf"trainer\.warm_start: {tmp_path} has no encoder of nnclr"):
            start(str(tmp_path))


def test_warm_start_from_settings_of_another_version_is_refused(encoder, exported, tmp_path):
    foreign = tmp_path / "model"
    shutil.copytree(exported, foreign)
    description = foreign / "assets.extra" / "nnclr.json"
    written = json.loads(description.read_text())
    written["settings"]["optimizer"]["nesterov"] = True
    description.write_text(json.dumps(written))
    for start in (export.fingerprint, lambda directory: export.load_weights(encoder, SETTINGS, (32, 32), directory)):
        with pytest.raises(SettingsError, match=rf"{foreign} has no encoder of nnclr .*nesterov"):
            start(str(foreign))


@pytest.mark.parametrize("present", [False, True], ids=["missing", "cut off"])
@pytest.mark.parametrize("name", ["variables/variables.index", "variables/variables.data-00000-of-00001"])
def test_damaged_weights_are_named(encoder, exported, tmp_path, name, present):
    damaged = Path(shutil.copytree(exported, tmp_path / "model"))
    whole = (damaged / name).read_bytes()
    (damaged / name).unlink()
    if present:
        (damaged / name).write_bytes(whole[: len(whole) // 2])
    for use in (
        lambda directory: export.load_weights(encoder, SETTINGS, (32, 32), directory),
        export.Embeddings.of_export,
        lambda directory: export.embed_encoded(directory, []),
        *([export.fingerprint] if name.endswith("index") and not present else []),
    ):
        with pytest.raises(SettingsError, match=rf"The SavedModel in {damaged} cannot be read \(.*restore it, or"):
            use(str(damaged))


def test_a_damaged_graph_or_description_is_named(exported, tmp_path):
    damaged = Path(shutil.copytree(exported, tmp_path / "model"))
    (damaged / "saved_model.pb").write_bytes(b"text")
    with pytest.raises(SettingsError, match=rf"The SavedModel in {damaged} cannot be read"):
        export.Embeddings.of_export(str(damaged))
    (damaged / "assets.extra" / "nnclr.json").write_bytes(b"\xff")
    assert export.describe_if_any(str(damaged)) is None
    with pytest.raises(SettingsError, match=rf"{damaged} has no encoder of nnclr \(.*: name the folder"):
        export.describe(str(damaged))


def test_fingerprint_tells_weights_apart(exported, exported_norm, tmp_path):
    again = str(tmp_path / "again")
    export.export_encoder(normalised(1), NORM, (32, 32), again, TrainingFigures(steps=9))
    assert export.fingerprint(again) == export.fingerprint(exported_norm) != export.fingerprint(exported)
