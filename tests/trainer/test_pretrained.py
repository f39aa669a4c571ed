"""Networks that others pretrained: real ones of Keras, with random weights that are saved locally."""

import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from trainer import export, fitting, pretrained
from trainer.config.networks import PretrainedSettings
from trainer.errors import SettingsError


def settings(**given) -> PretrainedSettings:
    return PretrainedSettings.model_validate(given)


def embedded(tmp_path: Path, given: PretrainedSettings, pixels: np.ndarray) -> np.ndarray:
    """What the exported network gives."""
    network = pretrained.load(given, "SETTING")
    pretrained.export_pretrained(network, str(tmp_path / "exported"))
    return export.Embeddings.of_export(str(tmp_path / "exported"))(pixels)


def require_alike(found: np.ndarray, expected: np.ndarray) -> None:
    """Compares features whose largest value is far from 1, as those of random weights are."""
    scale = np.max(np.abs(expected))
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-3)


def small(**changes) -> keras.Model:
    """MobileNetV2 without its classifier."""
    keras.utils.set_random_seed(1)
    arguments = {"alpha": 0.35, "input_shape": (48, 48, 3), "weights": None, "include_top": False}
    return keras.applications.MobileNetV2(**arguments | changes)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    small().save_weights(path)
    return str(path)


def test_a_network_of_keras_with_its_own_scaling_averaged_over_positions(weights):
    given = settings(network="MobileNetV2", weights=weights, options={"alpha": 0.35}, size=48)
    images = np.random.default_rng(0).uniform(0, 255, (2, 48, 48, 3)).astype(np.float32)
    network = pretrained.load(given, "SETTING")
    expected = small()(images / 127.5 - 1.0).numpy().mean((1, 2))
    require_alike(network.embed(images), expected)
    assert (network.size, given.title) == ((48, 48), "MobileNetV2")


@pytest.mark.long
def test_a_network_of_keras_is_exported_with_its_weights(tmp_path, weights):
    given = settings(network="MobileNetV2", weights=weights, options={"alpha": 0.35}, size=48)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8)
    expected = small()(pixels / 127.5 - 1.0).numpy().mean((1, 2))
    require_alike(embedded(tmp_path, given, pixels), expected)
    assert export.size(str(tmp_path / "exported")).parameters == small().count_params()


@pytest.mark.long
def test_the_size_is_the_networks_own_and_weights_may_have_a_classifier(tmp_path):
    """Keras' published files exist in both forms; those of EfficientNet hold deviations instead of variances."""
    keras.utils.set_random_seed(1)
    whole = keras.applications.EfficientNetB0(weights=None)
    scale = next(layer for layer in whole.layers if isinstance(layer, keras.layers.Normalization))
    count = scale.get_weights()[2]
    mean, variance = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    scale.set_weights([mean, variance, count])
    whole.save_weights(tmp_path / "published.weights.h5")
    network = pretrained.load(
        settings(network="EfficientNetB0", weights=str(tmp_path / "published.weights.h5")), "SETTING"
    )
    assert network.size == (224, 224)
    scale.set_weights([mean, variance**2, count])
    scale.finalize_state()
    images = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype(np.float32)
    features = keras.Model(whole.inputs, whole.get_layer("avg_pool").output)
    require_alike(network.embed(images), features(images))


@pytest.mark.parametrize(("preprocessing", "factor"), [(None, 1 / 255), ("none", 1.0)])
def test_a_keras_file_and_folder_give_what_the_model_gives(tmp_path, preprocessing, factor):
    """Images of any size are fitted to that of the network, and a map of features is averaged."""
    model = _layers(keras.layers.Conv2D(5, 3, 2), keras.layers.BatchNormalization())
    keras.saving.save_model(model, tmp_path / "network.keras")
    keras.saving.save_model(model, tmp_path / "folder", zipped=False)
    path = "folder" if preprocessing else "network.keras"
    given = settings(network=str(tmp_path / path), preprocessing=preprocessing)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 40, 3), np.uint8)
    expected = model(fitting.fit(pixels, (16, 16)) * factor).numpy().mean((1, 2))
    np.testing.assert_allclose(embedded(tmp_path, given, pixels), expected, rtol=1e-3, atol=1e-3)
    assert export.size(str(tmp_path / "exported")).parameters == model.count_params()


class _Hub(tf.Module):
    """As TensorFlow Hub's modules are: a call, and perhaps a signature."""

    def __init__(self):
        super().__init__()
        self._factor = tf.Variable([[1.0, 2.0, 3.0]])

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([], tf.bool)])
    def __call__(self, images, training=False):
        return tf.reduce_mean(images, [1, 2]) * self._factor * tf.where(training, 0.0, 1.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3], name="inputs")])
    def features(self, inputs):
        return {"default": inputs[:, ::4, ::4, :] * self._factor[0]}


@pytest.mark.parametrize("form", ["call", "signature", "nnclr"])
def test_saved_models_of_other_programs_and_of_nnclr(tmp_path, form):
    module = _Hub()
    pixels = np.full([2, 16, 16, 3], [51, 102, 255], np.uint8)
    given = {"network": str(tmp_path / "model")}
    if form == "nnclr":
        inner = pretrained.Pretrained((16, 16), lambda images: tf.reduce_mean(images, [1, 2]) * module._factor, module)
        pretrained.export_pretrained(inner, given["network"])
        given["size"], expected = 16, [51.0, 204.0, 765.0]
    else:
        signatures = {"serving_default": module.features} if form == "signature" else None
        tf.saved_model.save(module, given["network"], signatures)
        given |= {"size": 16} if form == "call" else {}
        expected = [0.2, 0.8, 3.0]
    np.testing.assert_allclose(embedded(tmp_path, settings(**given), pixels), [expected] * 2, rtol=1e-3)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"network": "EfficentNetB0"}, "did you mean EfficientNetB0 or"),
        ({"network": "MobileNetV2", "weights": "nowhere.h5"}, "the file nowhere.h5 of weights does not exist"),
        ({"network": "MobileNetV2", "weights": "net.pkl"}, "ends with .weights.h5 or .h5, not net.pkl"),
        ({"network": "MobileNetV2", "options": {"alpa": 1}}, "it has no option 'alpa'; it has alpha"),
        ({"network": "./nowhere"}, "there is no such file or folder"),
        ({"network": "s3://bucket/model"}, "TensorFlow"),
    ],
)
def test_what_is_missing_is_told_in_a_sentence(given, told):
    with pytest.raises(SettingsError, match=r"(?s)^\S.*\.$") as caught:
        pretrained.load(settings(**given), "evaluator.references.pretrained")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_lacks_weights_is_refused(tmp_path):
    """No layer keeps the random weights that it was made with."""
    inner = keras.Sequential([keras.layers.Conv2D(2, 1)])
    keras.Sequential([keras.Input([16, 16, 3]), inner, keras.layers.Conv2D(2, 1)]).save(tmp_path / "network.keras")
    with zipfile.ZipFile(tmp_path / "network.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (tmp_path / "weights").write_bytes(parts["model.weights.h5"])
    with h5py.File(tmp_path / "weights", "r+") as file:
        del file["layers/sequential"]
    parts["model.weights.h5"] = (tmp_path / "weights").read_bytes()
    with zipfile.ZipFile(tmp_path / "network.keras", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(SettingsError, match=r"network.keras cannot be loaded"):
        pretrained.load(settings(network=str(tmp_path / "network.keras")), "SETTING")


def test_weights_that_do_not_fit_and_a_download_that_fails_are_told(weights, monkeypatch):
    with pytest.raises(SettingsError, match=r"SETTING: MobileNetV2: the weights in .* do not fit the network"):
        pretrained.load(settings(network="MobileNetV2", weights=weights, options={"alpha": 0.5}, size=48), "SETTING")

    def unreachable(*_, **__):
        raise Exception("URL fetch failure on https://example.invalid: None -- [Errno -3] no name resolution")

    monkeypatch.setitem(keras.utils.get_file.__globals__, "urlretrieve", unreachable)
    with pytest.raises(SettingsError, match=r"Keras cannot download the weights imagenet .*name a local file"):
        pretrained.load(settings(network="MobileNetV2", options={"alpha": 0.35}, size=96), "SETTING")


@keras.saving.register_keras_serializable("tests")
class _Custom(keras.layers.Layer):
    def call(self, images):
        return images


def _layers(*layers) -> keras.Model:
    return keras.Sequential([keras.Input([16, 16, 3]), *layers])


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda: _layers(keras.layers.Lambda(lambda images: images)), "cannot be loaded"),
        (lambda: _layers(keras.layers.Dense(4), keras.layers.Reshape([256, 4])), r"it gives \[2, 256, 4\]"),
        (lambda: keras.Sequential([keras.Input([None, None, 3]), keras.layers.Conv2D(2, 3)]), "choose one with size"),
        (lambda: keras.Sequential([keras.Input([7]), keras.layers.Dense(2)]), r"and takes \[None, 7\]"),
        (lambda: _layers(keras.layers.Rescaling(float("inf"))), "not finite"),
    ],
)
def test_keras_files_that_hold_code_or_give_no_embeddings_are_refused(tmp_path, model, told):
    model().save(tmp_path / "network.keras")
    with pytest.raises(SettingsError, match=f"network.keras.*{told}"):
        pretrained.load(settings(network=str(tmp_path / "network.keras")), "SETTING")


def test_nothing_of_a_file_is_run_as_code(tmp_path):
    """A class of this program that a file names is not made, unless it is one of Keras' own."""
    _layers(_Custom()).save(tmp_path / "network.keras")
    registered = keras.saving.get_custom_objects().pop("tests>_Custom")
    try:
        with pytest.raises(SettingsError, match="cannot be loaded"):
            pretrained.load(settings(network=str(tmp_path / "network.keras")), "SETTING")
    finally:
        keras.saving.get_custom_objects()["tests>_Custom"] = registered


def test_saved_models_without_embeddings_are_refused(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "empty"))
    with pytest.raises(SettingsError, match=r"neither the signature embed_pixels nor serving_default"):
        pretrained.load(settings(network=str(tmp_path / "empty")), "SETTING")


def test_options_for_a_path_are_a_mistake_and_settings_survive_json():
    with pytest.raises(ValidationError, match="weights and options are for networks"):
        settings(network="./folder", weights="w.h5")
    given = settings(network="a/b/encoder.keras")
    assert PretrainedSettings.model_validate_json(given.model_dump_json()) == given
    assert given.title == "encoder"


def test_a_fingerprint_is_of_contents(tmp_path):
    for name, content in (("a.h5", b"1"), ("b.h5", b"2"), ("c.h5", b"1")):
        (tmp_path / name).write_bytes(content)
    of = {
        name: pretrained.fingerprint(settings(network="X", weights=str(tmp_path / name)))
        for name in ("a.h5", "b.h5", "c.h5")
    }
    assert of["a.h5"] == of["c.h5"] != of["b.h5"]
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"1")
    before = pretrained.fingerprint(settings(network=str(folder)))
    (folder / "saved_model.pb").write_bytes(b"2")
    assert pretrained.fingerprint(settings(network=str(folder))) != before
