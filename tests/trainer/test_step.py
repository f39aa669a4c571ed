"""One training step of each mode, worked out independently: who is compared with whom, what learns, what is enqueued.

The expected loss, its gradients with respect to the compared vectors, and the support set afterwards are plain NumPy.
Only the networks themselves, and the views, come from the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.conftest import fresh_collectives
from tests.trainer.test_losses import log_softmax
from trainer import augmentation, state
from trainer.config import EncoderSettings, TrainerSettings
from trainer.model import NNCLR
from trainer.plan import Plan
from trainer.step import TrainingStep

BATCH, SIZE, STEP, MEMBERS = 8, (32, 32), 5, 30
TEMPERATURE = 0.2

MODES = {
    "paper": {"neighbour": "paper"},
    "paper with small views": {"neighbour": "paper", "multi_crop": {"views": 2, "size": 0.97}},
    "straight_through": {"neighbour": "straight_through"},
    "none": {"neighbour": "none"},
}


def settings(mode: str) -> TrainerSettings:
    return TrainerSettings.model_validate(
        {
            "encoder": {"width": 8, "pooling": "average"},
            "projection": {"units": [16, 12]},
            "prediction": {"units": [24, 12]},
            "support_set_size": MEMBERS,
            "temperature": TEMPERATURE,
            "batch_size": BATCH,
            "epochs": 10,
            # The views of an image must differ visibly, or exchanging them would change nothing.
            "augmentation": {"crop_scale": (0.2, 0.6), "brightness": 0.5, "hue": 0.3, "saturation": 0.5},
            # A rate of 1 and no momentum: the weights change by minus the gradient.
            "optimizer": {"name": "sgd", "learning_rate": 1.0, "momentum": 0.0},
            "precision": "float32",
        }
        | MODES[mode]
    )


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cross_entropy(anchors: np.ndarray, candidates: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """InfoNCE of row i against candidate i, averaged over rows, and its gradients: -log softmax(a c' / t)."""
    logs = log_softmax(anchors.astype(np.float64) @ candidates.T / TEMPERATURE)
    slope = (np.exp(logs) - np.eye(len(anchors))) / len(anchors) / TEMPERATURE
    return -np.diag(logs).mean(), slope @ candidates, slope.T @ anchors


@dataclass
class Expected:
    """The loss, and its gradient with respect to each compared vector; None where no gradient may flow."""

    loss: float
    projections: list[np.ndarray] | None
    predictions: list[np.ndarray] | None


def expected(mode: str, z: Sequence[np.ndarray], p: Sequence[np.ndarray], members: np.ndarray) -> Expected:
    """From arXiv 2104.14548, equations 1 and 2, and keras.io/examples/vision/nnclr.

    Args:
        mode: one of `MODES`.
        z: projections of the views of each image, [BATCH, d] each; the two whole ones first.
        p: predictions likewise.
        members: The support set's members before the step, [MEMBERS, d].
    """
    neighbours = [members[np.argmax(view @ members.T, axis=1)] for view in z[:2]]
    if mode == "none":
        pairs = [(z[0], z[1], 0, 1), (z[1], z[0], 1, 0)]
        terms, anchor_learns, candidates = pairs, True, z
    elif mode == "straight_through":
        # Both softmaxes of both directions; the neighbour hands its gradient to the projection it was found for.
        terms = [(neighbours[0], z[1], 0, 1), (neighbours[1], z[0], 1, 0)]
        anchor_learns, candidates = True, z
    else:
        # NN(z1) meets every view's prediction but p1, NN(z2) every one but p2.
        terms = [(neighbours[i], p[j], i, j) for i in (0, 1) for j in range(len(p)) if i != j]
        anchor_learns, candidates = False, p
    gradients = [np.zeros_like(view, np.float64) for view in candidates]
    losses = []
    for anchor, candidate, i, j in terms:
        loss, of_anchor, of_candidate = cross_entropy(anchor, candidate)
        losses.append(loss)
        gradients[j] += of_candidate
        if anchor_learns:
            gradients[i] += of_anchor
        if mode == "straight_through":
            loss, of_candidate, of_anchor = cross_entropy(candidate, anchor)
            losses.append(loss)
            gradients[j] += of_candidate
            gradients[i] += of_anchor
    gradients = [gradient / len(losses) for gradient in gradients]
    if anchor_learns:
        return Expected(np.mean(losses), gradients, None)
    return Expected(np.mean(losses), None, gradients)


def views_of(settings: TrainerSettings, images: np.ndarray) -> list[tf.Tensor]:
    """The step's views, one tensor each, from the numbers that the step draws."""
    streams = [0, 1, *(4 + i for i in range(settings.multi_crop.views))]
    small = settings.augmentation.model_copy(update={"crop_scale": settings.multi_crop.scale})
    views = []
    for view, stream in enumerate(streams):
        numbers = augmentation.uniform_numbers(settings.seed, stream, tf.constant(STEP, tf.int64), BATCH)
        whole = view < 2
        side = round(SIZE[0] * (1.0 if whole else settings.multi_crop.size))
        strength = settings.augmentation if whole else small
        views.append(
            augmentation.random_views(
                augmentation.StoredImages.whole(tf.constant(images)), [numbers], strength, (side, side)
            )
        )
    return views


def test_labelled_images_leave_no_trace_in_the_encoder():
    """Not in its weights, and not in batch norm's statistics."""
    encoder = EncoderSettings(width=8, batch_norm=True, pooling="average")
    chosen = settings("none").model_copy(update={"encoder": encoder})
    rng = np.random.default_rng(0)
    unlabelled, *labelled = (tf.constant(rng.integers(0, 256, (BATCH, *SIZE, 3), np.uint8)) for _ in range(3))
    states = []
    for images in labelled:
        fresh_collectives()
        keras.utils.set_random_seed(1)
        model = NNCLR(chosen, SIZE, classes=4, dtype="float32")
        step = TrainingStep(model, chosen, Plan.of(chosen, 10 * BATCH), SIZE)
        step({"image": unlabelled}, {"image": images, "label": tf.range(BATCH) % 4}, tf.constant(STEP, tf.int64))
        states.append({name: value.numpy() for name, value in state.variables(model, step.optimizer).items()})
    one, other = states
    assert any("moving_variance" in name for name in one)
    for name, value in one.items():
        if "probe" not in name:
            np.testing.assert_array_equal(value, other[name], err_msg=name)
    # The images did reach the probe.
    assert any((one[name] != other[name]).any() for name in one if name.startswith("online_probe"))


@pytest.fixture(params=MODES)
def mode(request) -> str:
    return request.param


@pytest.fixture
def model(mode) -> NNCLR:
    fresh_collectives()
    keras.utils.set_random_seed(1)
    chosen = settings(mode)
    return NNCLR(chosen, SIZE, classes=0, dtype="float32")


def test_a_step_compares_learns_and_enqueues_what_its_mode_says(mode, model):
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *SIZE, 3), np.uint8)
    # Members of other images, among them close ones, so that the neighbour is neither the projection nor far from it.
    views = views_of(settings(mode), images)
    z_before = [unit(model.projection(model.encoder(view)).numpy()) for view in views[:2]]
    noise = np.random.default_rng(1).normal(size=(MEMBERS, 12))
    members = unit(np.tile(np.concatenate(z_before), (2, 1))[:MEMBERS] + 0.2 * noise).astype(np.float32)
    if mode == "none":
        assert model.support_set is None
    else:
        model.support_set.members.assign(members)
    variables = [variable.value for variable in model.pretrained_variables]
    before = [variable.numpy() for variable in variables]

    with tf.GradientTape() as tape:
        projections = [model.projection(model.encoder(view)) for view in views]
        z = [tf.math.l2_normalize(view, axis=1) for view in projections]
        heads = [model.prediction(view) if model.prediction else view for view in projections]
        p = [tf.math.l2_normalize(view, axis=1) for view in heads]
        wanted = expected(mode, [v.numpy() for v in z], [v.numpy() for v in p], members)
        compared, slopes = (z, wanted.projections) if wanted.projections else (p, wanted.predictions)
        # Its gradient is the chain rule: of the loss to the compared vectors, and of these to the weights.
        chained = tf.add_n(
            [
                tf.reduce_sum(vectors * tf.constant(slope, tf.float32))
                for vectors, slope in zip(compared, slopes, strict=True)
            ]
        )
    gradients = tape.gradient(chained, variables)

    chosen = settings(mode)
    step = TrainingStep(model, chosen, Plan.of(chosen, 10 * BATCH), SIZE)
    metrics = step({"image": tf.constant(images)}, None, tf.constant(STEP, tf.int64))

    assert float(metrics["c_loss"]) == pytest.approx(wanted.loss, rel=1e-5)
    for old, new, gradient in zip(before, variables, gradients, strict=True):
        np.testing.assert_allclose(old - new.numpy(), gradient, rtol=1e-3, atol=2e-5)
    assert ("support_set_age" in metrics) == (mode != "none")
    if mode == "none":
        return
    # The first view's projections of this step, in the oldest places, and nothing else.
    after = model.support_set.members.numpy()
    np.testing.assert_allclose(after[:BATCH], z[0].numpy(), atol=1e-6)
    np.testing.assert_array_equal(after[BATCH:], members[BATCH:])
    assert int(model.support_set.pointer.numpy()) == BATCH
