"""Small blessed encoders for the tests of releases."""

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import keras
import numpy as np

from components.linear_probe_evaluator.artifact import (
    Check,
    Difference,
    Duplicates,
    LabelFree,
    Metrics,
    Repeated,
    ViewQuality,
)
from components.model_registry import contents
from components.registry_pusher import release, verification
from components.registry_pusher.provenance import CodeVersion
from components.registry_pusher.release import Candidate, Release
from components.run_settings import RunSettings
from trainer import export
from trainer.config import TrainerSettings
from trainer.encoders import build_encoder
from trainer.results import TrainingFigures
from trainer.signatures import Classifier

SETTINGS = TrainerSettings.model_validate({"encoder": {"width": 8}})
CLASSES = ["cat", "chat d'été (été)"]
CODE = CodeVersion(nnclr_version="0.1.0", git_commit="c0ffee", lock_sha256="10c4")
# The registry stores whatever DataGate wrote.
STATISTICS = b"statistics of the images"
REPORT = "<!doctype html><title>report</title>"


def export_model(directory: Path, seed: int) -> str:
    """Writes the export of an untrained encoder of 32 x 32 pixels; each seed gives another one."""
    shutil.copytree(_exported(seed), directory, dirs_exist_ok=True)
    return str(directory)


@functools.cache
def _directory() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


@functools.cache
def _exported(seed: int) -> Path:
    directory = Path(_directory().name, str(seed))
    keras.utils.set_random_seed(seed)
    encoder = build_encoder(SETTINGS.encoder, (32, 32))
    training = TrainingFigures(steps=3, seconds=1.5, images_per_second=100.0, final_loss=2.5)
    export.export_encoder(encoder, SETTINGS, (32, 32), str(directory), training)
    return directory


def classifier(seed: int) -> Classifier:
    """Returns a linear classifier for two classes."""
    rng = np.random.default_rng(seed)
    return Classifier(rng.normal(size=(8, 2)).astype(np.float32), np.array([0.1, -0.1], np.float32), CLASSES)


def metrics(accuracy: float, champion_version: int | None = None) -> Metrics:
    """The evaluator's figures."""
    return Metrics(
        blessed=True,
        checks=[Check(passed=True, sentence="It beats an untrained encoder.")],
        probe_accuracy=accuracy,
        probe_interval=(accuracy - 0.02, accuracy + 0.02),
        probe_strength=0.1,
        class_accuracy={CLASSES[0]: 0.25, CLASSES[1]: 0.75},
        class_counts={CLASSES[0]: 20, CLASSES[1]: 20},
        knn_accuracy=0.4,
        knn={20: 0.4, 200: 0.38},
        folds=Repeated(mean=0.45, deviation=0.01, runs=10, images=10),
        label_shares={0.01: Repeated(mean=0.3, deviation=0.05, runs=5, images=2)},
        untrained_accuracy=0.2,
        untrained_interval=(0.15, 0.25),
        over_untrained=Difference(mean=accuracy - 0.2, low=0.1, high=0.5),
        champion=f"encoder version {champion_version}" if champion_version else None,
        champion_version=champion_version,
        champion_accuracy=0.4 if champion_version else None,
        embedding_size=8,
        rank_me=5.5,
        untrained_rank_me=4.5,
        duplicates={"test in train": Duplicates(images=40, exact=3, look=0)},
        findings=["3 of the 40 images of test occur in train as well."],
        counts={"unlabelled": 100, "train": 40, "test": 40},
        data="pictures",
        data_fingerprint="f00d",
        labelled_data="pictures",
        labelled_fingerprint="beef",
    )


def label_free_metrics(consistency: float, champion_version: int | None = None) -> Metrics:
    """The evaluator's figures of an encoder that was measured without labels."""

    def quality(share: float) -> ViewQuality:
        interval = (share - 0.02, share + 0.02)
        return ViewQuality(
            neighbour_consistency=share, interval=interval, alignment=0.3, uniformity=-2.5, rank_me=5.5, lidar=4.5
        )

    return Metrics(
        blessed=True,
        checks=[Check(name="labels", passed=True, sentence="There are no labelled images.")],
        label_free=LabelFree(
            images=100,
            views=8,
            candidate=quality(consistency),
            untrained=quality(0.1),
            champion=quality(0.4) if champion_version else None,
            over_untrained=Difference(mean=consistency - 0.1, low=0.1, high=0.5),
            over_champion=Difference(mean=consistency - 0.4, low=0.0, high=0.2) if champion_version else None,
        ),
        champion=f"encoder version {champion_version}" if champion_version else None,
        champion_version=champion_version,
        embedding_size=8,
        findings=["This favours the new encoder."],
        counts={"unlabelled": 100, "train": 0, "test": 0},
        data="pictures",
        data_fingerprint="f00d",
        labelled_data="pictures",
        labelled_fingerprint="f00d",
    )


def candidate(
    model: str,
    run: str,
    accuracy: float = 0.5,
    champion: int | None = None,
    seed: int = 0,
    approval: str = "automatic",
    card: Mapping[str, str] = MappingProxyType({}),
) -> Candidate:
    """A blessed encoder, as the pusher gets it."""
    # Without further formats, which take time.
    registry = {"formats": [], "approval": approval, "card": dict(card)}
    return Candidate(
        model=model,
        classifier=classifier(seed),
        metrics=metrics(accuracy, champion),
        report=REPORT,
        settings=RunSettings.model_validate({"name": "test", "trainer": SETTINGS, "registry": registry}),
        code=CODE,
        pipeline_run=run,
        data_statistics=STATISTICS,
    )


def built(candidates: Iterable[Candidate], directory: Path) -> dict[str, Release]:
    """Builds releases of a model `encoder` below a directory, and returns them by their candidates' identities."""
    return {each.identity: release.build(each, "encoder", "champion", directory / each.identity) for each in candidates}


def use_built(releases: dict[str, Release], replace: Callable[[object, str, object], None] = setattr) -> None:
    """Spares this process the seconds in which releases are built and verified, which change nothing that others see.

    Args:
        releases: What `built` returned.
        replace: Sets an attribute, perhaps for the time of a test.
    """
    replace(release, "build", lambda candidate, *_: releases[candidate.identity])
    replace(verification, "differences", lambda folder: [])


def use_stubs(directory: Path, replace: Callable[[object, str, object], None]) -> None:
    """Lets releases hold the SavedModel and a manifest only, which is all that TensorFlow Serving and others need.

    Args:
        directory: The folder for the files.
        replace: Sets an attribute for the time of a test.
    """

    def build(candidate: Candidate, *_: object) -> Release:
        folder = directory / candidate.pipeline_run
        shutil.copytree(candidate.model, folder / contents.SAVED_MODEL)
        contents.write_manifest(folder)
        accuracy, data = candidate.metrics.probe_accuracy, candidate.metrics.labelled_fingerprint
        return Release(candidate.identity, folder, accuracy, data, tags={"pipeline_run": candidate.pipeline_run})

    replace(release, "build", build)
    replace(verification, "differences", lambda folder: [])
