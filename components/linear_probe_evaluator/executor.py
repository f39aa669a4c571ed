"""Measures the candidate, an untrained twin and the champion in the same way on the same images."""

import os
from typing import Any

from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components import json_file
from components.champion_resolver import executor as champion_resolver
from components.image_example_gen import executor as image_example_gen
from components.image_example_gen.transforms import split_directory
from components.linear_probe_evaluator import gate, probes
from components.linear_probe_evaluator.config import EvaluatorSettings
from components.linear_probe_evaluator.features import embed
from trainer import data, examples, metrics
from trainer.export import Embeddings
from trainer.progress import Reporter

EXAMPLES, MODEL, CHAMPION = "examples", "model", "champion"
EVALUATION, BLESSING = "evaluation", "blessing"
SETTINGS = "settings"

_METRICS = "metrics.json"


class Executor(base_executor.BaseExecutor):
    """Writes `metrics.json` into `evaluation` and TFX's blessing, with the same reasons, into `blessing`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        settings = EvaluatorSettings.model_validate_json(exec_properties[SETTINGS])
        metrics = evaluate(
            settings,
            artifact_utils.get_single_uri(input_dict[EXAMPLES]),
            path_utils.serving_model_path(artifact_utils.get_single_uri(input_dict[MODEL])),
            artifact_utils.get_single_uri(input_dict[CHAMPION]),
        )
        json_file.write(artifact_utils.get_single_uri(output_dict[EVALUATION]), _METRICS, metrics)
        blessing = artifact_utils.get_single_instance(output_dict[BLESSING])
        blessed = metrics["blessed"]
        name = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
        io_utils.write_string_file(os.path.join(blessing.uri, name), "\n".join(metrics["reasons"]))
        blessing.set_int_custom_property(
            constants.ARTIFACT_PROPERTY_BLESSED_KEY,
            constants.BLESSED_VALUE if blessed else constants.NOT_BLESSED_VALUE,
        )


def evaluate(settings: EvaluatorSettings, examples_dir: str, model_dir: str, champion_dir: str) -> dict[str, Any]:
    """Measures and judges an exported encoder.

    Args:
        settings: the evaluator's.
        examples_dir: artifact of ImageExampleGen.
        model_dir: SavedModel.
        champion_dir: artifact of ChampionResolver.

    Returns:
        What `metrics.json` holds; accuracies are None where there are no labelled images.
    """
    described = image_example_gen.describe(examples_dir)
    counts = described["counts"]
    if not counts[examples.TEST]:
        reason = "There are no labelled images (train/ and test/), so nothing can be said about the encoder."
        return _report(described, None, None, None, None, None, [reason])
    size = (described["image_size"], described["image_size"])
    resolved = champion_resolver.resolved(champion_dir)
    champion = f"{resolved[0]} version {resolved[1]}" if resolved else None
    models = {
        "candidate": Embeddings.of_export(model_dir),
        "untrained": Embeddings.of_untrained_twin(model_dir, settings.seed),
    }
    if champion:
        models["champion"] = Embeddings.of_export(path_utils.serving_model_path(champion_dir))
    reporter = Reporter("Embedding", len(models) * (counts[examples.TRAIN] + counts[examples.TEST]))
    files = {
        split: data.matching_files([f"{split_directory(examples_dir, split)}/*"])
        for split in (examples.TRAIN, examples.TEST)
    }
    classes = len(described["class_names"])
    results = {}
    for name, model in models.items():
        train, test = (embed(model, files[split], size, reporter) for split in (examples.TRAIN, examples.TEST))
        results[name] = probes.linear_probe(train, test, classes, settings.seed)
        if name == "candidate":
            knn = metrics.knn_accuracy(train.features, train.labels, test.features, test.labels, settings.neighbours)
    baseline = results["champion"].accuracy if champion else None
    reasons = gate.reasons_against(
        settings,
        results["candidate"].accuracy,
        results["untrained"].accuracy,
        (champion, baseline) if champion and baseline is not None else None,
    )
    return _report(described, results["candidate"], knn, results["untrained"].accuracy, champion, baseline, reasons)


def _report(described, probe, knn, untrained, champion, baseline, reasons) -> dict[str, Any]:
    names = described["class_names"]
    return {
        "blessed": not reasons,
        "reasons": reasons,
        "probe_accuracy": probe.accuracy if probe else None,
        "probe_interval": probe.interval if probe else None,
        "probe_strength": probe.strength if probe else None,
        "class_accuracy": dict(zip(names, probe.recall, strict=True)) if probe else {},
        "knn_accuracy": knn,
        "random_encoder_accuracy": untrained,
        "baseline_accuracy": baseline,
        "baseline": champion,
        "counts": described["counts"],
    }


def read_metrics(directory: str) -> dict[str, Any]:
    """What `metrics.json` in the artifact `evaluation` holds."""
    return json_file.read(directory, _METRICS)


def is_blessed(directory: str) -> bool:
    """Whether the artifact `blessing` blesses: the file counts, as custom properties get lost on Kubeflow."""
    return fileio.exists(os.path.join(directory, constants.BLESSED_FILE_NAME))
