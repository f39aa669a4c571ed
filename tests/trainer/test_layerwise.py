"""The first layers of an encoder stay as they are, or learn more slowly."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from trainer import layerwise, loop
from trainer.config import EncoderSettings, OptimizerSettings, TrainerSettings
from trainer.encoders import build_encoder
from trainer.optimizers import build_optimizer
from trainer.plan import Plan

SIZE, BATCH = (32, 32), 8
ENCODER = {"width": 8, "batch_norm": True, "pooling": "average"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("start") / "convnet.weights.h5"
    keras.utils.set_random_seed(5)
    build_encoder(EncoderSettings.model_validate(ENCODER), SIZE).save_weights(path)
    return str(path)


def test_frozen_layers_keep_weights_and_statistics_and_cost_no_gradients(weights):
    """Of four convolutions and four batch norms, the first four of these eight layers are frozen."""
    given = TrainerSettings.model_validate(
        {
            "encoder": ENCODER | {"weights": weights, "frozen": 0.5},
            "projection": {"units": [16, 12]},
            "support_set_size": 30,
            "batch_size": BATCH,
            "precision": "float32",
        }
    )
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
