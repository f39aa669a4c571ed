"""What travels with a version: an MLflow model that says what it is, how good, and where from."""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jinja2
import yaml

from components.linear_probe_evaluator.artifact import Metrics
from components.model_registry import Release, contents
from components.model_registry.config import CardSettings
from components.registry_pusher import formats, verification
from components.registry_pusher.provenance import CodeVersion, Parents, Provenance
from components.run_settings import RunSettings
from trainer import export, portable, settings_tree
from trainer.config import CHAMPION
from trainer.results import TrainingFigures
from trainer.signatures import Classifier

# MLflow takes 250 characters for a whole metric.
_LONGEST_CLASS = 200
_NOT_IN_METRIC_NAMES = re.compile(r"[^\w. -]")


@dataclass(frozen=True)
class Candidate:
    """A blessed encoder, and everything that is recorded with it.

    Attributes:
        model: Local path of Trainer's SavedModel.
        classifier: The fitted probe; None if there are no labels.
        metrics: The evaluation's figures.
        report: The evaluation's report as HTML.
        settings: All settings of the run.
        code: The code that made the encoder.
        pipeline_run: Id of the run.
        data_statistics: Serialised statistics of the run's images, see `components.data_gate.statistics.kept`.
    """

    model: str
    classifier: Classifier | None
    metrics: Metrics
    report: str
    settings: RunSettings
    code: CodeVersion
    pipeline_run: str
    data_statistics: bytes

    @property
    def identity(self) -> str:
        """Fingerprint of the encoder, and of the images that its classifier was fitted and measured on.

        The encoder is its network, its weights, the version of nnclr that exports it, the formats, and what
        `registry.card` says of it. Its files also hold how long the training took, and are written in another order
        each time: the same encoder trained once more is the same.
        """
        described = export.describe(self.model)
        network = described.settings.encoder.model_dump(mode="json")
        encoder = [network, described.image_size, export.fingerprint(self.model)]
        registry = self.settings.registry
        files, card = sorted(registry.formats), registry.card.model_dump(mode="json")
        parts = [self.metrics.labelled_fingerprint, self.code.nnclr_version, files, card, *encoder]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def provenance(self) -> Provenance:
        """Where the encoder comes from."""
        start, champion, measured = self.settings.trainer.warm_start, self.metrics.champion, self.metrics.label_free
        compared = (measured.champion if measured else self.metrics.champion_accuracy) is not None
        return Provenance(
            **self.code.model_dump(),
            pipeline_run=self.pipeline_run,
            data_fingerprint=self.metrics.data_fingerprint,
            labelled_fingerprint=self.metrics.labelled_fingerprint,
            parents=Parents(
                warm_start=champion if start == CHAMPION else start, compared_with=champion if compared else None
            ),
        )

    @property
    def start(self) -> str | None:
        """The weights that the training started from, for people; None if they were random."""
        trainer = self.settings.trainer
        encoder = trainer.encoder
        network = encoder.name if encoder.may_bring_weights else None
        return trainer.from_checkpoint or self.provenance.parents.warm_start or encoder.weights or network


def build(candidate: Candidate, name: str, alias: str, directory: Path) -> Release:
    """Writes everything into a new local directory.

    In MLflow's layout: the SavedModel below `artifacts/saved_model`, with the classifier if there is one, MLflow's own
    `MLmodel` with signature and input example, `model_card.md`, `metrics.json`, `settings.yaml`, `provenance.json`,
    `report.html`, the statistics of the images, example images with their embeddings, the encoder in further formats,
    and last a manifest of all files' sha256.

    Args:
        candidate: The encoder to release.
        name: Name of the registered model.
        alias: Alias that the version will have.
        directory: Folder to create. Its parent exists.

    Raises:
        SettingsError: If the encoder cannot be written in one of `registry.formats`.
    """
    described, metrics, provenance = export.describe(candidate.model), candidate.metrics, candidate.provenance
    card_settings = candidate.settings.registry.card
    settings = candidate.settings.model_dump(mode="json")
    with tempfile.TemporaryDirectory() as scratch:
        saved_model = f"{scratch}/{contents.SAVED_MODEL.name}"
        if candidate.classifier:
            export.export_with_classifier(candidate.model, candidate.classifier, saved_model)
        else:
            shutil.copytree(candidate.model, saved_model)
        assert metrics.embedding_size  # Only measured encoders are blessed.
        _save_mlflow_model(directory, saved_model, described.image_size, metrics.embedding_size)
    verification.write_examples(directory, candidate.model)
    deviations = formats.write(candidate.model, candidate.settings.registry.formats, directory)
    texts = {
        "model_card.md": card(candidate, name, alias, deviations),
        "metrics.json": metrics.model_dump_json(indent=2),
        "settings.yaml": yaml.safe_dump(settings, sort_keys=False),
        "provenance.json": provenance.model_dump_json(indent=2),
        "report.html": candidate.report,
    }
    for file, text in texts.items():
        (directory / file).write_text(text, encoding="utf-8")
    (directory / contents.DATA_STATISTICS).write_bytes(candidate.data_statistics)
    contents.write_manifest(directory)
    recorded = provenance.model_dump(exclude={"parents"})
    stated = {key: text for key in ("licence", "contact") if (text := getattr(card_settings, key))}
    parents = {f"parent_{role}": parent for role, parent in provenance.parents if parent}
    return Release(
        identity=candidate.identity,
        directory=directory,
        probe_accuracy=metrics.probe_accuracy,
        test_data=metrics.labelled_fingerprint,
        neighbour_consistency=metrics.label_free.candidate.neighbour_consistency if metrics.label_free else None,
        description=_description(metrics, card_settings),
        metrics=dict(_numbers(metrics, described.training))
        | {f"format_difference/{name}": deviation for name, deviation in deviations.items()},
        parameters={name: str(value) for name, value in settings_tree.flattened(settings).items()},
        tags=recorded | parents | stated,
    )


def card(candidate: Candidate, name: str, alias: str, deviations: dict[str, float]) -> str:
    """Returns the model card as Markdown.

    Args:
        candidate: The encoder to release.
        name: Name of the registered model.
        alias: Alias that marks the champion.
        deviations: The largest difference of each further format from the SavedModel, by the format's name.
    """
    described = export.describe(candidate.model)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("components.registry_pusher", "."),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 (the card is Markdown; its filter `literal` is for the names of others)
        keep_trailing_newline=True,
    )
    environment.globals["percent"] = "{:.1%}".format
    environment.filters["literal"] = _literal
    return environment.get_template("model_card.md.j2").render(
        metrics=candidate.metrics,
        provenance=candidate.provenance,
        name=name,
        alias=alias,
        card=candidate.settings.registry.card,
        trainer=candidate.settings.trainer,
        start=candidate.start,
        training=described.training,
        image_size=described.image_size,
        formats={portable.FORMATS[name].file: deviation for name, deviation in deviations.items()},
    )


def _literal(text: str) -> str:
    """Returns Markdown that shows a text with the names of classes as it is: without HTML, links and table cells."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("](", "]\\(").replace("|", "\\|")


def _save_mlflow_model(directory: Path, saved_model: str, size: tuple[int, int], width: int) -> None:
    import mlflow
    import numpy as np
    import pandas as pd
    import PIL
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
        pip_requirements=[
            *(f"{module.__name__}=={module.__version__}" for module in (mlflow, tf, np, pd)),
            f"pillow=={PIL.__version__}",
        ],
    )


def headline(metrics: Metrics) -> str:
    """Returns the figure that stands for an encoder."""
    if metrics.label_free:
        return f"Neighbour consistency {metrics.label_free.candidate.neighbour_consistency:.1%}, without labels"
    return f"Linear probe {metrics.probe_accuracy:.1%}"


def _description(metrics: Metrics, card: CardSettings) -> str:
    if metrics.label_free:
        untrained = metrics.label_free.untrained.neighbour_consistency
        (low, high), others = metrics.label_free.candidate.interval, f"untrained encoder {untrained:.1%}"
    else:
        assert metrics.probe_interval is not None
        low, high = metrics.probe_interval
        others = f"kNN {metrics.knn_accuracy:.1%}, untrained encoder {metrics.untrained_accuracy:.1%}"
    lines = [
        f"**{headline(metrics)}** (95 % interval {low:.1%} to {high:.1%}), {others}.",
        *(check.sentence for check in metrics.checks),
        *(f"**Note:** {finding}" for finding in metrics.findings),
        *(f"**{name.replace('_', ' ').capitalize()}:** {text}" for name, text in card if text),
        "`model_card.md` and `report.html` among the artifacts hold the details.",
    ]
    return "\n\n".join(lines)


def _numbers(metrics: Metrics, training: TrainingFigures | None) -> Iterator[tuple[str, float]]:
    """Yields the figures of the version's MLflow run."""
    for name, value in metrics:
        if isinstance(value, float):
            yield name, value
    for name, recall in metrics.class_accuracy.items():
        # MLflow has no value for a class without test images.
        if recall is not None:
            yield f"class_accuracy/{_metric_name(name)}", recall
    for k, value in metrics.knn.items():
        yield f"knn_accuracy/{k}", value
    for share, result in metrics.label_shares.items():
        yield f"label_share_accuracy/{share}", result.mean
    if metrics.folds:
        yield "folds_accuracy", metrics.folds.mean
    for encoder, quality in metrics.label_free.encoders().items() if metrics.label_free else ():
        for name, value in quality:
            if isinstance(value, float):
                yield f"label_free/{encoder.replace(' ', '_')}/{name}", value
    for name, value in training or ():
        yield f"training/{name}", float(value)


def _metric_name(name: str) -> str:
    """A class's name by MLflow's rules, distinct where the names are; metrics.json keeps the true ones."""
    allowed = _NOT_IN_METRIC_NAMES.sub("_", name)[:_LONGEST_CLASS]
    return allowed if allowed == name else f"{allowed}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
