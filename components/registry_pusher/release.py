"""What travels with a version: an MLflow model that says what it is, how good, and where from."""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from components.model_registry import Release, contents
from components.registry_pusher import verification
from trainer import export
from trainer.config import CHAMPION
from trainer.results import TrainingFigures
from trainer.signatures import Classifier

# MLflow takes 250 characters for a whole metric.
_LONGEST_CLASS = 200
_NOT_IN_METRIC_NAMES = re.compile(r"[^\w. -]")


@dataclass(frozen=True)
class Candidate:
    """A blessed encoder and all that is known of it.

    Attributes:
        model: Trainer's SavedModel, local.
        classifier: the fitted probe.
        metrics: of the evaluation.
        report: the evaluation's page.
        provenance: where it comes from: `pipeline_run`, `nnclr_version`, `git_commit`, `lock_sha256`, and `settings`,
            the whole tree.
    """

    model: str
    classifier: Classifier
    metrics: dict[str, Any]
    report: str
    provenance: dict[str, Any]

    @property
    def identity(self) -> str:
        """Changes when the encoder does, or the images that its classifier was fitted and measured on.

        The encoder is its network, its weights and the version of nnclr that exports it. Its files also hold how long
        the training took, and are written in another order each time: the same encoder trained once more is the same.
        """
        described = export.describe(self.model)
        network = described.settings.encoder.model_dump(mode="json")
        encoder = [network, described.image_size, export.fingerprint(self.model)]
        parts = [self.metrics["labelled_fingerprint"], self.provenance["nnclr_version"], *encoder]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def parents(self) -> dict[str, str | None]:
        """What it descends from: the start of its weights, and the champion that it was compared with."""
        start = self.provenance["settings"]["trainer"]["warm_start"]
        champion = self.metrics["baseline"]
        return {"warm_start": champion if start == CHAMPION else start, "compared_with": champion}


def build(candidate: Candidate, name: str, alias: str, directory: Path) -> Release:
    """Writes everything into a new local directory.

    In MLflow's layout: the SavedModel with the classifier below `artifacts/saved_model`, MLflow's own `MLmodel` with
    signature and input example, `model_card.md`, `metrics.json`, `settings.yaml`, `provenance.json`, `report.html`,
    example images with their embeddings, and last a manifest of all files' sha256.

    Args:
        candidate: to release.
        name: of the registered model.
        alias: that it will have.
        directory: to create; its parent exists.
    """
    described = export.describe(candidate.model)
    provenance = {key: value for key, value in candidate.provenance.items() if key != "settings"}
    provenance |= {key: candidate.metrics[key] for key in ("data_fingerprint", "labelled_fingerprint")}
    provenance["parents"] = candidate.parents
    settings = yaml.safe_dump(candidate.provenance["settings"], sort_keys=False)
    with tempfile.TemporaryDirectory() as aside:
        saved_model = f"{aside}/{contents.SAVED_MODEL.name}"
        export.export_with_classifier(candidate.model, candidate.classifier, saved_model)
        _save_mlflow_model(directory, saved_model, described.image_size, candidate.metrics["embedding_size"])
    verification.write_examples(directory, candidate.model)
    card = _environment().get_template("model_card.md.j2")
    facts = {
        **{"metrics": candidate.metrics, "provenance": provenance, "name": name, "alias": alias},
        **{"trainer": candidate.provenance["settings"]["trainer"], "training": described.training},
    }
    texts = {
        "model_card.md": card.render(**facts, image_size=described.image_size),
        "metrics.json": json.dumps(candidate.metrics, indent=2),
        "settings.yaml": settings,
        "provenance.json": json.dumps(provenance, indent=2),
        "report.html": candidate.report,
    }
    for file, text in texts.items():
        (directory / file).write_text(text, encoding="utf-8")
    contents.write_manifest(directory)
    return Release(
        identity=candidate.identity,
        directory=directory,
        probe_accuracy=candidate.metrics["probe_accuracy"],
        test_data=candidate.metrics["labelled_fingerprint"],
        description=_description(candidate.metrics),
        metrics=dict(_numbers(candidate.metrics, described.training)),
        parameters=dict(_flattened(candidate.provenance["settings"])),
        tags={key: str(value) for key, value in provenance.items() if key != "parents"}
        | {f"parent_{role}": parent for role, parent in candidate.parents.items() if parent},
    )


def _save_mlflow_model(directory: Path, saved_model: str, size: tuple[int, int], width: int) -> None:
    import mlflow
    import numpy as np
    import pandas as pd
    import tensorflow as tf
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image_bytes")]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, width), "embeddings")]),
    )
    mlflow.pyfunc.save_model(
        str(directory),
        python_model=str(Path(__file__).with_name("served_encoder.py")),
        artifacts={contents.SAVED_MODEL.name: saved_model},
        signature=signature,
        input_example=pd.DataFrame({"image_bytes": verification.example_images(size)[:1]}),
        pip_requirements=[f"{module.__name__}=={module.__version__}" for module in (mlflow, tf, np, pd)],
    )


def _description(metrics: dict[str, Any]) -> str:
    low, high = metrics["probe_interval"]
    lines = [
        f"Linear probe **{metrics['probe_accuracy']:.1%}** (95 % interval {low:.1%} to {high:.1%}), kNN "
        f"{metrics['knn_accuracy']:.1%}, untrained encoder {metrics['random_encoder_accuracy']:.1%}.",
        *(check["sentence"] for check in metrics["checks"]),
        "`model_card.md` and `report.html` among the artifacts say more.",
    ]
    return "\n\n".join(lines)


def _numbers(metrics: dict[str, Any], training: TrainingFigures | None) -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        if isinstance(value, float):
            yield name, value
    for name, value in metrics["class_accuracy"].items():
        yield f"class_accuracy/{_metric_name(name)}", value
    for k, value in metrics["knn"].items():
        yield f"knn_accuracy/{k}", value
    for share, result in metrics["label_shares"].items():
        yield f"label_share_accuracy/{share}", result["mean"]
    if metrics["folds"]:
        yield "folds_accuracy", metrics["folds"]["mean"]
    for name, value in training or ():
        yield f"training/{name}", float(value)


def _metric_name(name: str) -> str:
    """A class's name by MLflow's rules, distinct where the names are; metrics.json keeps the true ones."""
    allowed = _NOT_IN_METRIC_NAMES.sub("_", name)[:_LONGEST_CLASS]
    return allowed if allowed == name else f"{allowed}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _flattened(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("components.registry_pusher", "."),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown
        keep_trailing_newline=True,
    )
    environment.globals["percent"] = "{:.1%}".format
    return environment
