"""Trainings that start from a network of Keras or from weights in a file, and what becomes of them."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.conftest import mirrored
from tests.trainer.variables import train_with_variables
from trainer import encoders, export, keras_networks, loop
from trainer.config import EncoderSettings, TrainerSettings
from trainer.encoders import build_encoder, network
from trainer.errors import SettingsError
from trainer.layers.batch_norm import BatchNormalization
from trainer.layers.pixel_scale import SCALES, scaled
from trainer.signatures import Classifier

SIZE = (32, 32)
CONVNET = {"name": "convnet", "width": 4, "batch_norm": True, "pooling": "average"}
SETTINGS = {
    "projection": {"units": [16, 12]},
    "support_set_size": 50,
    "batch_size": 16,
    "duration": "4 steps",
    "checkpoint": {"every": "2 steps"},
    "online_probe": {"batch_size": 8},
    "optimizer": {"name": "sgd", "learning_rate": 0.05},
    "precision": "float32",
    "shuffle_buffer": 32,
}


def save_network(path: Path, last: keras.layers.Layer | None = None) -> keras.Model:
    """A network with all that is special: nested, frozen, at random, and with batch norm of several forms."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    inner_images = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, 2, use_bias=False)(inner_images)
    x = layers.BatchNormalization(epsilon=0.02, scale=False)(x)
    x = layers.ReLU(6.0)(x)
    inner = keras.Model(inner_images, layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(x)]) * 2.0)
    inner.trainable = False
    images = keras.Input((32, 32, 3))
    x = inner(images, training=False)
    x = keras.Sequential([layers.Conv2D(12, 3, 2), layers.BatchNormalization(center=False)])(x)
    model = keras.Model(images, (last or layers.GlobalAveragePooling2D())(layers.Dropout(0.5)(x)))
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if "moving" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    model.save(path)
    return model


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> tuple[str, keras.Model]:
    """The path of the network, and the network itself."""
    path = tmp_path_factory.mktemp("start") / "network.keras"
    return str(path), save_network(path)


def settings(path: str, **changes) -> TrainerSettings:
    return TrainerSettings.model_validate(SETTINGS | {"encoder": {"name": path}} | changes)


def test_an_encoder_gives_what_the_network_gives_and_is_trained_as_ours_are(start):
    path, model = start
    images = np.random.default_rng(0).uniform(0, 1, (3, *SIZE, 3)).astype(np.float32)
    encoder = build_encoder(EncoderSettings(name=path, preprocessing="tf"), SIZE)
    np.testing.assert_allclose(encoder(images), model(images * 2 - 1), rtol=1e-4, atol=1e-5)
    kinds = [type(layer) for layer in encoder.layers]
    assert kinds.count(BatchNormalization) == 2
    assert not {keras.layers.BatchNormalization, keras.layers.Dropout} & set(kinds)
    # Three kernels, two biases, the beta of one batch norm and the gamma of the other.
    assert len(encoder.trainable_variables) == 3 + 2 + 2
    assert encoder(np.zeros((1, 20, 24, 3), np.float32)).shape == (1, 12)


def test_a_map_of_features_is_averaged_and_bfloat16_computes_on_the_same_weights(tmp_path):
    model = save_network(tmp_path / "map.keras", keras.layers.Identity())
    encoder = build_encoder(EncoderSettings(name=f"{tmp_path}/map.keras"), SIZE, "mixed_bfloat16")
    images = np.random.default_rng(0).uniform(0, 1, (3, *SIZE, 3)).astype(np.float32)
    expected = model(images).numpy().mean((1, 2))
    assert encoder(images).dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(encoder(images), tf.float32), expected, atol=0.1)
    np.testing.assert_allclose(network.copied(encoder, "float32")(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_a_training_from_a_network_is_resumed(start, tmp_path, tfrecords, logical_cpus):
    """It ends with the same weights after an interruption, and they are others than those that it started from."""
    path, _ = start
    job = loop.Job(tfrecords["unlabelled"], tfrecords["train"], checkpoint_root=str(tmp_path / "checkpoints"))
    given = settings(path)
    model, _, expected = train_with_variables(given, job, mirrored(logical_cpus[:1]))
    (last,) = (tmp_path / "checkpoints").glob("*/step-*4.npz")
    last.unlink()
    _, _, resumed = train_with_variables(given, job, mirrored(logical_cpus[:1]))
    for name, value in expected.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)
    variables = build_encoder(given.encoder, SIZE).trainable_variables, model.encoder.trainable_variables
    for before, after in zip(*variables, strict=True):
        assert not np.array_equal(before, after), before.path


def test_an_exported_encoder_is_loaded_and_trained_anew_without_the_file_that_it_started_from(tmp_path):
    path = tmp_path / "network.keras"
    save_network(path)
    given = settings(str(path))
    encoder = build_encoder(given.encoder, SIZE, "mixed_bfloat16")
    export.export_encoder(encoder, given, SIZE, str(tmp_path / "model"))
    path.unlink()
    images = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), np.uint8)
    features = network.copied(encoder, "float32")(images / np.float32(255))
    classifier = Classifier(np.zeros((12, 2), np.float32), np.zeros(2, np.float32), ["a", "b"])
    export.export_with_classifier(str(tmp_path / "model"), classifier, str(tmp_path / "released"))
    loaded = export.load_encoder(str(tmp_path / "released"))
    exported = export.Embeddings.of_export(str(tmp_path / "released"))(images)
    for found in (loaded(images / np.float32(255)), exported):
        np.testing.assert_allclose(found, features, rtol=1e-4, atol=1e-5)
    twin = export.untrained_encoder(str(tmp_path / "released"))
    assert [w.shape for w in twin.weights] == [w.shape for w in loaded.weights]
    assert not np.allclose(twin(images / np.float32(255)), features, atol=1e-2)


@pytest.mark.long
@pytest.mark.parametrize("statistics", ["pretrained", "batch"])
def test_a_network_trains_the_same_on_two_devices(start, tfrecords, logical_cpus, statistics):
    """Its own batch norm would compute the statistics of each device."""
    given = settings(start[0], duration="2 steps", encoder={"name": start[0], "batch_norm_statistics": statistics})
    job = loop.Job(tfrecords["unlabelled"], tfrecords["train"])
    _, _, one = train_with_variables(given, job, mirrored(logical_cpus[:1]))
    _, _, two = train_with_variables(given, job, mirrored(logical_cpus[:2]))
    for name, value in one.items():
        if "probe" not in name:
            np.testing.assert_allclose(two[name], value, rtol=1e-3, atol=2e-4, err_msg=name)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "options"),
    [("MobileNetV2", {"alpha": 0.35}), ("MobileNetV3Small", {}), ("EfficientNetB0", {}), ("ConvNeXtTiny", {})],
)
def test_networks_of_keras_survive_the_way_to_an_encoder_and_to_its_architecture(name, options):
    arguments = {"include_top": False, "weights": None, "input_shape": (*SIZE, 3), "pooling": "avg"}
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(**arguments, **options)
    keras.utils.set_random_seed(0)
    encoder = build_encoder(EncoderSettings(name=f"keras:{name}", options=options), SIZE)
    again = network.from_json(network.to_json(encoder))
    again.set_weights(encoder.get_weights())
    images = np.random.default_rng(0).uniform(0, 255, (2, *SIZE, 3)).astype(np.float32)
    expected = model(scaled(images.copy(), keras_networks.own_scale(name))).numpy()
    for found in (encoder, again):
        np.testing.assert_allclose(found(images / 255) / expected.max(), expected / expected.max(), atol=1e-4)


def test_the_scale_of_every_network_of_keras_is_known():
    scales = {name: keras_networks.own_scale(name) for name in keras_networks.application_names()}
    assert set(scales.values()) <= set(SCALES)
    known = {"MobileNetV2": "tf", "MobileNetV3Small": "none", "DenseNet121": "torch", "ResNet50": "caffe"}
    assert {name: scales[name] for name in known} == known


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    """A file with weights of a small convnet."""
    keras.utils.set_random_seed(5)
    path = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    build_encoder(EncoderSettings.model_validate(CONVNET), SIZE).save_weights(path)
    return str(path)


def test_built_in_encoders_start_from_weights_in_a_file(weights, tmp_path):
    given = EncoderSettings.model_validate(CONVNET | {"weights": weights})
    first, second = (build_encoder(given, SIZE, dtype) for dtype in ("float32", "mixed_bfloat16"))
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    before = encoders.start_fingerprint(given)
    copy = shutil.copy(weights, f"{tmp_path}/copy.weights.h5")
    assert encoders.start_fingerprint(given.model_copy(update={"weights": copy})) == before
    Path(copy).write_bytes(b"other")
    assert encoders.start_fingerprint(given.model_copy(update={"weights": copy})) != before


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": "keras:EfficentNetB0"}, "did you mean EfficientNetB0 or"),
        pytest.param(
            {"name": "keras:MobileNetV2", "weights": "nowhere.h5"},
            "the file nowhere.h5 of weights does not exist",
            marks=pytest.mark.long,
        ),
        ({"name": "keras:MobileNetV2", "options": {"alpa": 1}}, "it has no option 'alpa'; it has alpha"),
        ({"name": "./nowhere.keras"}, "there is no such file or folder"),
        ({"name": "convnet", "weights": "nowhere.h5"}, "the file nowhere.h5 of weights does not exist"),
        (CONVNET | {"width": 8, "weights": "WEIGHTS"}, r"small.weights.h5 do not fit it \("),
        ({"name": "convnet", "weights": "WEIGHTS"}, r"small.weights.h5 do not fit it \("),
        ({"name": "FLAT"}, "takes images of 32 x 32 pixels only, and those of this training have 48 x 48"),
        ({"name": "TOKENS"}, "it must give one row of features"),
        ({"name": "SAVED"}, "a compiled program, which cannot be trained further"),
    ],
)
def test_what_cannot_be_started_from_is_told_in_a_sentence(given, told, weights, tmp_path):
    made = {
        "WEIGHTS": weights,
        "FLAT": tmp_path / "flat.keras",
        "TOKENS": tmp_path / "t.keras",
        "SAVED": tmp_path / "s",
    }
    given = {key: str(made[value]) if str(value) in made else value for key, value in given.items()}
    match given["name"].removeprefix(f"{tmp_path}/"):
        case "flat.keras":
            save_network(made["FLAT"], keras.layers.Flatten())
        case "t.keras":
            save_network(made["TOKENS"], keras.layers.Reshape((-1, 12)))
        case "s":
            tf.saved_model.save(tf.Module(), given["name"])
    with pytest.raises(SettingsError, match=r"^trainer\.encoder\S*: \S.*\.$") as caught:
        encoders.require_buildable(EncoderSettings.model_validate(given), (48, 48))
    assert caught.match(told)
    assert "\n" not in str(caught.value)


def test_small_views_need_an_encoder_that_takes_them(tmp_path):
    save_network(tmp_path / "flat.keras", keras.layers.Flatten())
    given = settings(f"{tmp_path}/flat.keras", multi_crop={"views": 1, "size": 0.5})
    with pytest.raises(SettingsError, match=r"multi_crop\.size needs .*flat\.keras takes images of 32x32 pixels only"):
        loop.build(given, loop.Plan.of(given, 100), SIZE, 0, tf.distribute.get_strategy())
