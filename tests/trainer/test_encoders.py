"""The networks are what their papers say, and users can add their own."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from tests.trainer.conftest import mirrored
from trainer.config import EncoderSettings
from trainer.encoders import build_encoder
from trainer.layers.positions import Positions


def built(size=(32, 32), **settings) -> keras.Model:
    return build_encoder(EncoderSettings(**settings), size)


@pytest.mark.parametrize(
    ("name", "features", "weights"),
    # Trainable weights of torchvision's resnet18 and resnet50 without their last layer.
    [("resnet18", 512, 11_176_512), ("resnet50", 2048, 23_508_032)],
)
def test_resnets_have_the_weights_of_the_reference(name, features, weights):
    large = built((224, 224), name=name)
    assert large.output_shape[-1] == features
    assert sum(np.prod(variable.shape) for variable in large.trainable_variables) == weights
    assert large.get_layer("stem").kernel.shape == (7, 7, 3, 64)
    small = built((96, 96), name=name)
    assert small.get_layer("stem").kernel.shape == (3, 3, 3, 64)
    assert small.get_layer("stem").strides == (1, 1)


@pytest.mark.parametrize(("pixels", "side"), [(127, 16), (128, 4)])
def test_small_images_keep_their_resolution_in_the_stem(pixels, side):
    network = built((pixels, pixels), name="resnet18", width=4)
    before = keras.Model(network.input, network.layers[-1].input)
    assert before(np.zeros((1, pixels, pixels, 3), np.float32)).shape == (1, side, side, 32)


def test_a_residual_branch_starts_as_nothing():
    network = built(name="resnet18", width=4)
    gammas = [layer.gamma.numpy() for layer in network.layers if layer.name.endswith("block1_norm")]
    assert len(gammas) == 4
    assert all(np.all(gamma == 0) for gamma in gammas)


def test_convnet_is_the_examples_and_has_a_normalised_pooled_variant():
    plain = built((96, 96), name="convnet")
    assert [layer.name for layer in plain.layers][-2:] == ["flatten", "embedding"]
    # 4 convolutions, and a dense layer on 5 x 5 positions.
    expected = (27 * 128 + 128) + 3 * (9 * 128 * 128 + 128) + (25 * 128 * 128 + 128)
    assert plain.count_params() == expected
    pooled = built(name="convnet", width=16, batch_norm=True, pooling="average")
    for side in (31, 64):
        assert pooled(np.zeros((2, side, side, 3), np.float32)).shape == (2, 16)
    growing = built(width=[4, 8, 16, 24], pooling="average")
    assert [layer.filters for layer in growing.layers if "conv" in layer.name] == [4, 8, 16, 24]
    assert growing.output_shape == (None, 24)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_embedding_of_a_convnet_can_hold_the_means_and_maxima_of_all_its_layers(batch_norm):
    network = built(width=[4, 8, 16, 24], batch_norm=batch_norm, pooling="layers")
    images = np.random.default_rng(0).random((2, 48, 64, 3), np.float32)
    last_of_each = [f"{'relu' if batch_norm else 'conv'}_{i}" for i in range(1, 5)]
    outputs = keras.Model(network.inputs, [network.get_layer(name).output for name in last_of_each])(images)
    pooled = [pool(output, axis=(1, 2)) for output in outputs for pool in (np.mean, np.max)]
    expected = np.concatenate(pooled, axis=1)
    np.testing.assert_allclose(network(images), expected, rtol=1e-5, atol=1e-6)
    assert network.output_shape == (None, 2 * (4 + 8 + 16 + 24))


@pytest.mark.long
def test_efficientnet_lite0_has_the_weights_of_the_reference():
    """Those of tf-models' efficientnet-lite0, 4,652,008, without its last layer; see `tests.benchmarks.lite0`."""
    network = built((224, 224), name="efficientnet-lite0")
    trained = sum(np.prod(variable.shape) for variable in network.trainable_variables)
    assert trained == 4_652_008 - 1281 * 1000
    assert network.output_shape == (None, 1280)
    assert network.layers[-1].input.shape[1:] == (None, None, 1280)
    before = keras.Model(network.input, network.layers[-1].input)
    assert before(np.zeros((1, 96, 64, 3), np.float32)).shape == (1, 3, 2, 1280)


@pytest.mark.long
def test_efficientnet_lite0_gives_the_same_on_two_devices(logical_cpus):
    images = np.random.default_rng(0).uniform(0, 1, (32, 32, 32, 3)).astype(np.float32)

    def features(devices: list[str]) -> np.ndarray:
        strategy = mirrored(devices)
        keras.utils.set_random_seed(0)
        with strategy.scope():
            network = built(name="efficientnet-lite0")
        parts = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(np.split(images, len(devices))[context.replica_id_in_sync_group])
        )
        found = tf.function(lambda: strategy.run(lambda part: network(part, training=True), args=(parts,)))()
        return np.concatenate([part.numpy() for part in strategy.experimental_local_results(found)])

    one, two = features(logical_cpus[:1]), features(logical_cpus[:2])
    np.testing.assert_allclose(two, one, atol=1e-3)
    # Statistics of a device's own images would differ by a tenth and more.
    assert one.std() > 0.1


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "width", "weights"),
    # Those of timm's vit_tiny_patch16_224 and vit_small_patch16_224 (5,717,416 and 22,050,664) without class token,
    # positions and last layer; a patch of 8 pixels has a quarter of the values.
    [
        ("vit-tiny", 192, 5_717_416 - 198 * 192 - 193 * 1000 - 192 * 192 * 3),
        ("vit-small", 384, 22_050_664 - 198 * 384 - 385 * 1000 - 192 * 384 * 3),
    ],
)
def test_vits_have_the_weights_of_the_reference_and_take_views_of_any_size(name, width, weights):
    network = built((32, 32), name=name, patch=8)
    assert network.count_params() == weights
    for side in (8, 16, 40):
        assert network(np.zeros((1, side, side, 3), np.float32)).shape == (1, width)


def test_a_vit_knows_where_a_patch_is_also_in_a_smaller_view():
    positions = Positions(4, 4)
    whole, half = positions(tf.zeros([1, 4, 4, 32]))[0], positions(tf.zeros([1, 2, 2, 32]))[0]
    flat = np.reshape(whole, [16, 32])
    assert len(np.unique(flat.round(4), axis=0)) == 16
    assert np.abs(flat).max() <= 1
    # The first patch of the smaller view lies between the first two of the whole one, in rows and columns.
    nearest = np.argsort(np.linalg.norm(flat - half[0, 0], axis=1))[:4]
    assert sorted(nearest) == [0, 1, 4, 5]
    again = Positions.from_config(positions.get_config())
    np.testing.assert_array_equal(again(tf.zeros([1, 4, 4, 32]))[0], whole)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "convnet", "width": [4, 8]}, "one number or 4, not 2"),
        ({"name": "resnet18", "width": [4, 8, 16, 32]}, "resnet18 is one number"),
        ({"name": "resnet18", "batch_norm": True}, "resnet18 does not use batch_norm: .* set batch_norm: false"),
        ({"name": "vit-tiny", "width": 8, "pooling": "average"}, "use width and pooling: .*null, pooling: flatten"),
        ({"name": "efficientnet-lite0", "patch": 8}, "does not use patch"),
        ({"name": "convnet", "options": {"alpha": 1}}, r"does not use options: .* set options: \{\}"),
        ({"name": "./net.keras", "weights": "w.h5"}, "has its own: set weights to null"),
        ({"name": "resnet50", "weights": "imagenet"}, "Only networks of keras.applications have the weights imagenet"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        EncoderSettings(**settings)


def test_an_installed_package_adds_an_encoder_in_ten_lines(tmp_path, monkeypatch):
    (tmp_path / "my_package.py").write_text(
        "import keras\n"
        "def build(settings, size, dtype):\n"
        "    images = keras.Input((*size, 3))\n"
        "    x = keras.layers.Flatten(dtype=dtype)(images)\n"
        "    return keras.Model(images, keras.layers.Dense(settings.width or 7, dtype=dtype)(x))\n"
    )
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nnclr.encoders]\nmine = my_package:build\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert built(name="mine").output_shape == (None, 7)
    finally:
        sys.modules.pop("my_package", None)


def test_an_unknown_encoder_is_refused_with_those_that_there_are():
    with pytest.raises(ValidationError, match=r"Choose one of convnet, resnet18, .*, keras:NAME for .* or a path"):
        EncoderSettings(name="vit")
