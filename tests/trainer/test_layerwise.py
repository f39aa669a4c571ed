"""The first layers of an encoder stay as they are, or learn more slowly."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from trainer import layerwise, loop
from trainer.config import EncoderSettings, OptimizerSettings, TrainerSettings
from trainer.encoders import build_encoder
from trainer.model import NNCLR
from trainer.optimizers import build_optimizer
from trainer.plan import Plan

SIZE, BATCH = (32, 32), 8
ENCODER = {"width": 8, "batch_norm": True, "pooling": "average"}
SETTINGS = {
    "projection": {"units": [16, 12], "batch_norm": True},
    "support_set_size": 30,
    "batch_size": BATCH,
    "precision": "float32",
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("start") / "convnet.weights.h5"
    keras.utils.set_random_seed(5)
    build_encoder(EncoderSettings.model_validate(ENCODER), SIZE).save_weights(path)
    return str(path)


def test_frozen_layers_keep_weights_and_statistics_and_cost_no_gradients(weights):
    """Of four convolutions and four batch norms, the first four of these eight layers are frozen."""
    encoder = ENCODER | {"weights": weights, "frozen": 0.5, "batch_norm_statistics": "batch"}
    given = TrainerSettings.model_validate(SETTINGS | {"encoder": encoder, "projection": {"units": [16, 12]}})
    model, step = loop.build(given, Plan.of(given, BATCH), SIZE, 0, tf.distribute.get_strategy())
    start = build_encoder(given.encoder, SIZE)

    @tf.function(autograph=False)
    def graph_step(images):
        return step({"image": images}, None, tf.constant(0, tf.int64))

    graph = graph_step.get_concrete_function(tf.TensorSpec([BATCH, *SIZE, 3], tf.uint8)).graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    operations = [node.op for node in nodes]
    # Two convolutions learn, and TensorFlow leaves out the first one's gradient for the frozen layers.
    assert operations.count("Conv2DBackpropFilter") == 2
    assert operations.count("Conv2DBackpropInput") == 2
    assert operations.count("FusedBatchNormGradV3") == 2
    graph_step(tf.constant(np.random.default_rng(0).integers(0, 256, (BATCH, *SIZE, 3), np.uint8)))
    for number in (1, 2, 3, 4):
        for kind in ("conv", "norm"):
            before, after = (net.get_layer(f"{kind}_{number}").get_weights() for net in (start, model.encoder))
            for a, b in zip(before, after, strict=True):
                assert np.array_equal(a, b) == (number <= 2), (kind, number)


def after_a_step(given: TrainerSettings) -> NNCLR:
    model, step = loop.build(given, Plan.of(given, BATCH), SIZE, 0, tf.distribute.get_strategy())
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *SIZE, 3), np.uint8)
    tf.function(step, autograph=False)({"image": tf.constant(images)}, None, tf.constant(0, tf.int64))
    return model


@pytest.mark.parametrize("frozen", [0.0, 0.5])
@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize("given", ["auto", "pretrained", "batch"])
def test_a_pretrained_start_keeps_its_statistics_unless_those_of_the_batches_are_demanded(
    weights, given, momentum, frozen
):
    encoder = ENCODER | {"weights": weights, "batch_norm_statistics": given, "frozen": frozen}
    changes = {"encoder": encoder, "momentum_encoder": {"momentum": momentum}}
    model = after_a_step(TrainerSettings.model_validate(SETTINGS | changes))
    start = build_encoder(EncoderSettings.model_validate(ENCODER | {"weights": weights}), SIZE)
    trained = [model.encoder] if model.momentum is None else [model.encoder, model.momentum.encoder]
    for place in (1, 2, 3, 4):
        layer = f"norm_{place}"
        stays = frozen > 0 and place <= 2
        kernels = [net.get_layer(f"conv_{place}").kernel.numpy() for net in (start, model.encoder)]
        assert np.array_equal(*kernels) == stays
        gammas = [net.get_layer(layer).gamma.numpy() for net in (start, model.encoder)]
        assert np.array_equal(*gammas) == stays
        for network in trained:
            means = [net.get_layer(layer).moving_mean.numpy() for net in (start, network)]
            assert np.array_equal(*means) == (stays or given != "batch"), (layer, network.name)
    # The statistics of the heads are those of the batches: the heads start from random weights.
    assert np.any(model.projection.get_layer("norm_1").moving_mean.numpy())


def test_only_a_start_has_statistics_to_keep(weights):
    demanded = {"batch_norm_statistics": "pretrained"}
    with pytest.raises(ValidationError, match=r"random weights, which have no statistics of images: set encoder\."):
        TrainerSettings.model_validate({"encoder": ENCODER | demanded})
    assert TrainerSettings.model_validate({"encoder": demanded, "warm_start": "champion"}).encoder.keeps_statistics
    assert EncoderSettings(name="./a").keeps_statistics
    assert not EncoderSettings(name="convnet").keeps_statistics
    started = EncoderSettings.model_validate(ENCODER | {"weights": weights} | demanded)
    assert not started.architecture.keeps_statistics


def test_rates_rise_geometrically_to_those_of_the_heads():
    encoder = build_encoder(EncoderSettings.model_validate(ENCODER), SIZE)
    layerwise.freeze(encoder, 0.5)
    head = keras.Variable(np.zeros((2, 2)))
    shares = layerwise.rates(encoder, 1 / 16, [*encoder.trainable_variables, head])
    # The kernel of a convolution, gamma and beta of its batch norm, and the same again.
    np.testing.assert_allclose(shares, [1 / 16, 1 / 8, 1 / 8, 1 / 4, 1 / 2, 1 / 2, 1])


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "lars"])
def test_every_optimiser_trains_and_decays_a_variable_with_its_share_of_the_rate(name):
    rng = np.random.default_rng(0)
    values, gradient = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    settings = OptimizerSettings(name=name, weight_decay=0.0 if name == "adam" else 0.1, momentum=0.0)

    def moved(shares):
        variables = [keras.Variable(values), keras.Variable(values)]
        rate = keras.optimizers.schedules.CosineDecay(0.01, decay_steps=10, alpha=1.0)
        build_optimizer(settings, rate, variables, shares).apply([tf.constant(gradient)] * 2, variables)
        return [variable.numpy() - values for variable in variables]

    whole, _ = moved([1.0, 1.0])
    slow, fast = moved([0.25, 1.0])
    np.testing.assert_array_equal(fast, whole)
    np.testing.assert_allclose(slow, whole / 4, rtol=1e-3, atol=1e-6)


def test_random_weights_are_not_frozen(weights):
    with pytest.raises(ValidationError, match=r"training starts from random weights, .*: set encoder\.weights or"):
        TrainerSettings.model_validate({"encoder": ENCODER | {"frozen": 0.5}})
    for start in (
        {"encoder": ENCODER | {"frozen": 0.5, "weights": weights}},
        {"encoder": {"name": "./a", "frozen": 0.5}},
    ):
        assert TrainerSettings.model_validate(start).encoder.frozen == 0.5
    assert TrainerSettings.model_validate({"encoder": {"frozen": 0.5}, "warm_start": "champion"}).encoder.frozen == 0.5
