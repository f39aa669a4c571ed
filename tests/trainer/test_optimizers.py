"""Optimisers and schedules against plain NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import OptimizerSettings
from trainer.optimizers import LearningRate, build_optimizer

SHAPES = {"kernel": (5, 4), "bias": (4,), "gamma": (4,)}


def variables(rng) -> list[keras.Variable]:
    return [keras.Variable(rng.normal(size=shape).astype(np.float32), name=name) for name, shape in SHAPES.items()]


def constant(rate):
    return keras.optimizers.schedules.CosineDecay(rate, decay_steps=10, alpha=1.0)


def run(settings, rate, rng, gradients):
    """The variables' values before and after the updates."""
    held = variables(rng)
    before = [variable.numpy().astype(np.float64) for variable in held]
    optimizer = build_optimizer(settings, constant(rate), held)
    for step in gradients:
        optimizer.apply([tf.constant(gradient) for gradient in step], held)
    return before, [variable.numpy() for variable in held]


def drawn(rng, steps):
    return [[rng.normal(size=shape).astype(np.float32) for shape in SHAPES.values()] for _ in range(steps)]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(1, 5),
    rate=st.floats(1e-3, 10),
    momentum=st.floats(0, 0.99),
    decay=st.sampled_from([0.0, 1e-6, 1e-2]),
)
def test_lars(seed, steps, rate, momentum, decay):
    rng = np.random.default_rng(seed)
    gradients = drawn(rng, steps)
    chosen = OptimizerSettings(name="lars", momentum=momentum, weight_decay=decay)
    weights, found = run(chosen, rate, rng, gradients)
    velocities = [np.zeros_like(w) for w in weights]
    for step in gradients:
        for i, given_gradient in enumerate(step):
            gradient, local = given_gradient, rate
            if weights[i].ndim > 1:
                gradient = gradient + decay * weights[i]
                local *= 1e-3 * np.linalg.norm(weights[i]) / np.linalg.norm(gradient)
            velocities[i] = momentum * velocities[i] + local * gradient
            weights[i] = weights[i] - velocities[i]
    for expected, value in zip(weights, found, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)


def test_lars_leaves_the_rate_alone_where_a_norm_is_zero():
    kernel = keras.Variable(np.zeros((2, 2), np.float32))
    optimizer = build_optimizer(OptimizerSettings(name="lars", momentum=0.0), constant(0.5), [kernel])
    optimizer.apply([tf.ones([2, 2])], [kernel])
    np.testing.assert_allclose(kernel.numpy(), -0.5)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_only_kernels_decay(name):
    rng = np.random.default_rng(0)
    still = [[np.zeros(shape, np.float32) for shape in SHAPES.values()]]
    before, after = run(OptimizerSettings(name=name, weight_decay=0.1), 0.5, rng, still)
    assert np.all(np.abs(after[0]) < np.abs(before[0]))
    for i in (1, 2):
        np.testing.assert_array_equal(after[i], before[i].astype(np.float32))


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_sgd_with_momentum_and_decay_as_in_pytorch(decay):
    rng = np.random.default_rng(0)
    gradients = drawn(rng, 3)
    chosen = OptimizerSettings(name="sgd", momentum=0.8, weight_decay=decay)
    (weight, *_), (found, *_) = run(chosen, 0.1, rng, gradients)
    velocity = np.zeros_like(weight)
    for gradient, *_ in gradients:
        velocity = 0.8 * velocity + 0.1 * (gradient + decay * weight)
        weight = weight - velocity
    np.testing.assert_allclose(found, weight, rtol=1e-5, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    batch=st.integers(1, 8192),
    scale_to=st.sampled_from([None, 256]),
    steps=st.integers(2, 500),
    warmup_share=st.floats(0, 0.99),
    schedule=st.sampled_from(["constant", "cosine"]),
)
def test_schedule(batch, scale_to, steps, warmup_share, schedule):
    warmup = int(steps * warmup_share)
    chosen = OptimizerSettings(learning_rate=0.3, scale_to=scale_to, schedule=schedule)
    rate = LearningRate(chosen, batch, steps + 7, warmup)
    rate.set_length(steps)
    peak = 0.3 * batch / 256 if scale_to else 0.3
    for step in {0, warmup // 2, warmup, (warmup + steps) // 2, steps - 1, steps}:
        if step < warmup:
            expected = peak * step / warmup
        elif schedule == "constant":
            expected = peak
        else:
            expected = peak * (1 + np.cos(np.pi * (step - warmup) / (steps - warmup))) / 2
        assert float(rate(step)) == pytest.approx(expected, rel=1e-3, abs=1e-5 * peak)
