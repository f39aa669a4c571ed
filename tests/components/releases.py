"""Small blessed encoders for the tests of releases."""

from pathlib import Path

import keras
import numpy as np

from components.registry_pusher.release import Candidate
from trainer import export
from trainer.config import TrainerSettings
from trainer.encoders import build_encoder
from trainer.signatures import Classifier

SETTINGS = TrainerSettings.model_validate({"encoder": {"width": 8}})
CLASSES = ["cat", "chat d'été (été)"]
REPORT = "<!doctype html><title>report</title>"


def export_model(directory: Path, seed: int) -> str:
    """Exports an untrained encoder for 32 x 32 pixels, with weights that depend on the seed; returns its folder."""
    keras.utils.set_random_seed(seed)
    encoder = build_encoder(SETTINGS.encoder, (32, 32))
    training = {"steps": 3, "seconds": 1.5, "images_per_second": 100.0, "final_loss": 2.5}
    export.export_encoder(encoder, SETTINGS, (32, 32), str(directory), training)
    return str(directory)


def classifier(seed: int) -> Classifier:
    """Returns a linear classifier for two classes."""
    rng = np.random.default_rng(seed)
    return Classifier(rng.normal(size=(8, 2)).astype(np.float32), np.array([0.1, -0.1], np.float32), CLASSES)


def metrics(accuracy: float, baseline_version: int | None = None) -> dict:
    """Returns metrics as the evaluator writes them."""
    return {
        "blessed": True,
        "reasons": [],
        "checks": [{"passed": True, "sentence": "It beats an untrained encoder."}],
        "probe_accuracy": accuracy,
        "probe_interval": [accuracy - 0.02, accuracy + 0.02],
        "probe_strength": 0.1,
        "class_accuracy": {CLASSES[0]: 0.25, CLASSES[1]: 0.75},
        "class_counts": {CLASSES[0]: 20, CLASSES[1]: 20},
        "knn_accuracy": 0.4,
        "knn": {"20": 0.4, "200": 0.38},
        "folds": {"mean": 0.45, "deviation": 0.01, "runs": 10, "images": 10},
        "label_shares": {"0.01": {"mean": 0.3, "deviation": 0.05, "runs": 5, "images": 2}},
        "fine_tuned_accuracy": None,
        "random_encoder_accuracy": 0.2,
        "random_encoder_interval": [0.15, 0.25],
        "over_random": {"mean": accuracy - 0.2, "low": 0.1, "high": 0.5},
        "baseline": f"encoder version {baseline_version}" if baseline_version else None,
        "baseline_version": baseline_version,
        "baseline_accuracy": None,
        "baseline_interval": None,
        "over_baseline": None,
        "embedding_size": 8,
        "rank_me": 5.5,
        "duplicates": {},
        "findings": ["3 of the 40 images of test occur in train as well."],
        "counts": {"unlabelled": 100, "train": 40, "test": 40},
        "data": "pictures",
        "data_fingerprint": "f00d",
        "labelled_data": "pictures",
        "labelled_fingerprint": "beef",
    }


def candidate(model: str, run: str, accuracy: float = 0.5, baseline: int | None = None, seed: int = 0) -> Candidate:
    """Returns a blessed encoder as the pusher receives it."""
    return Candidate(
        model=model,
        classifier=classifier(seed),
        metrics=metrics(accuracy, baseline),
        report=REPORT,
        provenance={
            "pipeline_run": run,
            "nnclr_version": "0.1.0",
            "git_commit": "c0ffee",
            "lock_sha256": "10c4",
            "settings": {"name": "test", "trainer": SETTINGS.model_dump(mode="json")},
        },
    )
