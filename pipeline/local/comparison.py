"""Compares encoders of different origins: finds and loads them, ingests the images, and measures."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from components import artifact_files
from components.image_example_gen import artifact as examples_artifact
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.sources.opening import open_labelled
from components.linear_probe_evaluator import artifact as evaluation_artifact
from components.linear_probe_evaluator import comparison, page
from components.linear_probe_evaluator.artifact import Comparison
from components.linear_probe_evaluator.comparison import Named
from pipeline.config import Settings
from pipeline.local import encoders, single_steps
from pipeline.local.workdir import Workdir
from trainer import storage

_FILE = "comparison.json"


def compare(settings: Settings, models: list[str], data: str, workdir: Workdir, output: str | None) -> Comparison:
    """Compares encoders on labelled images.

    Args:
        settings: `evaluator.label_shares`, `evaluator.neighbours`, `data` and `beam` apply.
        models: The encoders, as the command takes them.
        data: Path or URI of ingested images, or of a source with labelled images.
        workdir: The working directory with the embedded model registry.
        output: Path or URI of the folder for the results; None writes none.

    Raises:
        DataError: If the images cannot be used.
        SettingsError: If a model is missing or cannot be used.
    """
    with _scratch(output) as scratch, tempfile.TemporaryDirectory(prefix="nnclr-compare-") as local:
        found = [encoders.found(model, workdir, f"{scratch}/model-{i}") for i, model in enumerate(models)]
        named = _distinct([Named(model.title, model.encoder) for model in found])
        examples = data
        if examples_artifact.is_artifact(data):
            storage.require_tensorflow(data, "--data")
        else:
            examples = f"{scratch}/examples"
            ingest_settings = encoders.large_enough(
                settings.data.narrow(IngestSettings), [model.encoder for model in named]
            )
            single_steps.ingest_into(open_labelled(data, ingest_settings), settings, ingest_settings, examples)
        result = comparison.compare(
            settings.evaluator, named, examples, f"{scratch}/embeddings", Path(local), single_steps.pipelines(settings)
        )
    if output:
        evaluation_artifact.write_report(output, page.render_comparison(result))
        artifact_files.write_json(f"{output}/{_FILE}", result)
    return result


@contextmanager
def _scratch(output: str | None) -> Iterator[str]:
    """Yields a temporary folder: beside the results, where workers on other machines may see it, if there are any."""
    if output:
        with single_steps.scratch_beside(output) as folder:
            tf.io.gfile.makedirs(folder)
            yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="nnclr-compare-") as folder:
            yield folder


def _distinct(models: list[Named]) -> list[Named]:
    """Numbers encoders of the same name."""
    names = [model.name for model in models]
    return [
        model._replace(name=f"{model.name} ({names[: i + 1].count(model.name)})")
        if names.count(model.name) > 1
        else model
        for i, model in enumerate(models)
    ]
