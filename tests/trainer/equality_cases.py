"""Settings that together have every mode, optimiser and head, for the tests that compare devices and machines."""

from typing import Any

import numpy as np
import pytest

BATCH = 16
STEPS = 2
RATE = 1e-3

NORM = {"encoder": {"width": 8, "batch_norm": True, "pooling": "average"}}
HEADS = {"projection": {"units": [16, 12], "batch_norm": True}, "prediction": {"units": [20, 12], "batch_norm": True}}
SGD = {"optimizer": {"name": "sgd", "learning_rate": 0.005, "weight_decay": 1e-3}}
LARS = {"optimizer": {"name": "lars", "learning_rate": 0.2, "weight_decay": 1e-3}}
PLAIN = {"encoder": {"width": 8}, "projection": {"units": [16, 12]}}

CASES: dict[str, dict[str, Any]] = {
    "example": PLAIN,
    "example, sgd": PLAIN | SGD,
    "straight through, batch norm, sgd": NORM | HEADS | SGD,
    "paper, batch norm, lars": NORM | HEADS | LARS | {"neighbour": "paper"},
    "paper, adamw": PLAIN
    | {"neighbour": "paper", "prediction": {"units": [9, 12]}, "optimizer": {"name": "adamw", "weight_decay": 0.1}},
    "simclr, batch norm, lars": NORM | HEADS | LARS | {"neighbour": "none"},
    "clipped, in two parts, one of three neighbours, byol": NORM
    | HEADS
    | {"neighbour": "paper", "accumulate": 2, "top_k": 3, "augmentation": {"preset": "byol"}}
    | {"optimizer": SGD["optimizer"] | {"clip_norm": 0.5}},
    "momentum encoder": NORM | HEADS | SGD | {"neighbour": "paper", "momentum_encoder": {"momentum": 0.5}},
    "small views": NORM
    | HEADS
    | SGD
    | {"neighbour": "paper", "multi_crop": {"views": 2, "size": 0.97}}
    | {"progressive_resizing": {"size": 0.97, "until": 0.5}},
    "resnet18": HEADS | SGD | {"encoder": {"name": "resnet18", "width": 4}, "neighbour": "paper"},
    # EfficientNet-Lite0 is compared in test_encoders, because rounding grows through its 51 batch norms.
    "vit-tiny, first layers slower": PLAIN
    | {"encoder": {"name": "vit-tiny", "patch": 8}, "optimizer": SGD["optimizer"] | {"first_layer_rate": 0.1}},
}

# Losses agree within 1e-4 relative, these within 1e-3.
_LOOSE_METRICS = ("gradient_norm", "p_loss", "val_p_loss", "rank_me")


def require_same_metrics(row: dict[str, float], expected: dict[str, float]) -> None:
    """Metrics agree, accuracies up to one image: near ties may fall either way."""
    assert row.keys() == expected.keys()
    for metric, value in row.items():
        if metric == "images_per_second":
            continue
        one_image = 1 / BATCH if metric.endswith(("_acc", "_share")) else 1e-5
        relative = 1e-3 if metric in _LOOSE_METRICS else 1e-4
        assert value == pytest.approx(expected[metric], rel=relative, abs=one_image), metric


def require_same_state(name: str, state: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Weights, statistics, optimisers and support set agree within 1e-3 relative and 2e-4 absolute.

    SGD's and LARS' velocities are gradients, which are thereby compared one by one. Adam divides a gradient by its own
    size: where that is hardly more than rounding, the sign of the update is chance, so its weights are compared within
    a few learning rates. The online probe always learns with Adam.
    """
    assert state.keys() == expected.keys()
    adam = CASES[name].get("optimizer", {}).get("name", "adam").startswith("adam")
    for part, value in expected.items():
        absolute = 2e-4
        if part.startswith("online_probe") or (adam and not part.startswith(("optimizer", "support_set"))):
            absolute = 2 * STEPS * RATE
        np.testing.assert_allclose(state[part], value, rtol=1e-3, atol=absolute, err_msg=part)
