"""Pushes to the registry, or says that there was nothing to push."""

import json
import os
import re
import tempfile
from typing import Any

import numpy as np
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components import json_file
from components.linear_probe_evaluator import executor as evaluator
from components.model_registry import ModelRegistry, Release
from trainer import export

MODEL, EVALUATION, BLESSING = "model", "evaluation", "blessing"
PUSHED = "pushed_model"
MODEL_NAME, ALIAS, REGISTRY_DIRECTORY = "model_name", "alias", "registry_directory"
FINGERPRINT, RUN_ID = "fingerprint", "run_id"

_DESCRIPTION = "push.json"
_LARGEST_DIFFERENCE = 1e-4
_NOT_IN_METRIC_NAMES = re.compile(r"[^\w. -]")


class Executor(base_executor.BaseExecutor):
    """Writes `push.json` into `pushed_model`: `pushed`, `changed`, and of the version `name, version, uri, alias`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        result: dict[str, Any] = {"pushed": False, "changed": False}
        if evaluator.is_blessed(artifact_utils.get_single_uri(input_dict[BLESSING])):
            metrics = evaluator.read_metrics(artifact_utils.get_single_uri(input_dict[EVALUATION]))
            exported = path_utils.serving_model_path(artifact_utils.get_single_uri(input_dict[MODEL]))
            with tempfile.TemporaryDirectory() as aside:
                # MLflow reads local files; the artifact may lie in a bucket.
                model = os.path.join(aside, "model")
                io_utils.copy_dir(exported, model)
                version, changed = ModelRegistry(exec_properties[REGISTRY_DIRECTORY]).push(
                    exec_properties[MODEL_NAME],
                    exec_properties[ALIAS],
                    model,
                    describe_release(model, metrics, exec_properties[FINGERPRINT], exec_properties[RUN_ID]),
                    check=lambda downloaded: require_same_embeddings(model, downloaded),
                )
            result = {
                "pushed": True,
                "changed": changed,
                "name": version.name,
                "version": version.version,
                "uri": version.uri,
                "alias": exec_properties[ALIAS],
            }
        json_file.write(artifact_utils.get_single_uri(output_dict[PUSHED]), _DESCRIPTION, result)


def describe_release(model: str, metrics: dict[str, Any], fingerprint: str, run_id: str) -> Release:
    """What goes into the registry with a model: measured figures, the trainer's settings, and where it comes from."""
    described = export.describe(model)
    numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
    # Classes are named by people, metrics by MLflow's rules; metrics.json keeps the true names.
    numbers |= {
        f"class_accuracy/{_NOT_IN_METRIC_NAMES.sub('_', name)}": value
        for name, value in metrics["class_accuracy"].items()
    }
    numbers |= {f"training/{name}": float(value) for name, value in described["training"].items()}
    return Release(
        probe_accuracy=metrics["probe_accuracy"],
        metrics=numbers,
        parameters=dict(_flattened(described["settings"])),
        tags={"data_fingerprint": fingerprint, "pipeline_run": run_id},
        files={"metrics.json": json.dumps(metrics, indent=2)},
    )


def require_same_embeddings(pushed: str, downloaded: str) -> None:
    """Embeds noise with both models.

    Raises:
        RuntimeError: they differ, so the registry does not give back what it was given.
    """
    height, width = export.describe(pushed)["image_size"]
    noise = np.random.default_rng(0).integers(0, 256, (8, height, width, 3), np.uint8)
    ours, theirs = (export.Embeddings.of_export(directory)(noise) for directory in (pushed, downloaded))
    difference = np.abs(ours - theirs).max()
    if not difference <= _LARGEST_DIFFERENCE:
        raise RuntimeError(f"The registered model's embeddings differ from the pushed one's by up to {difference:g}.")


def read_push(directory: str) -> dict[str, Any]:
    """What `push.json` in the artifact `pushed_model` holds."""
    return json_file.read(directory, _DESCRIPTION)


def _flattened(tree: dict[str, Any], prefix: str = ""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
