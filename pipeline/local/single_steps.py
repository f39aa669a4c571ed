"""Single steps of the pipeline without TFX: ingest, and the evaluation of an exported encoder."""

import posixpath
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apache_beam as beam
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions

from components import artifact_files
from components.image_example_gen import artifact as examples_artifact
from components.image_example_gen.artifact import REJECTED_FILE, Dataset
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.fingerprint import fingerprint
from components.image_example_gen.ingest import ingest as ingest_source
from components.image_example_gen.sources.base import Source
from components.image_example_gen.sources.opening import open_labelled, open_source
from components.linear_probe_evaluator import artifact as evaluation_artifact
from components.linear_probe_evaluator import page
from components.linear_probe_evaluator.artifact import Metrics
from components.linear_probe_evaluator.evaluation import Inputs
from components.linear_probe_evaluator.evaluation import evaluate as evaluate_encoder
from pipeline.config import Settings
from pipeline.local.paths import absolute
from pipeline.local.rejections import rejections_kept
from trainer import aside, export, storage
from trainer.errors import SettingsError

_SAVED_MODEL = "saved_model.pb"
# Where `python -m trainer` and TFX's Trainer put the SavedModel inside their output folders.
_MODEL_FOLDERS = ("", "model", "Format-Serving")
# Where they put the training's history, relative to the folder that holds the SavedModel.
_RUN_FOLDERS = ("logs", "../logs", "../../model_run")


def ingest(settings: Settings, source: str, output: str) -> Dataset:
    """Ingests images into a new folder of TFRecords, which appears when it is complete.

    Args:
        settings: `data.image_size`, `data.max_rejected` and `beam` apply.
        source: Local path or URI of the images.
        output: Local path or `gs://` URI of the folder.

    Raises:
        DataError: If the images cannot be used.
        SettingsError: If the folder already exists, or is in S3.
    """
    storage.require_tensorflow(output, "OUT")
    if artifact_files.exists(output.rstrip("/")):
        raise SettingsError(f"{output} already exists: name a new folder.")
    ingest_settings = settings.data.narrow(IngestSettings)
    images = open_source(source, ingest_settings)
    with rejections_kept(f"{output.rstrip('/')}.{REJECTED_FILE}"), _completed(output.rstrip("/")) as unfinished:
        return ingest_into(images, settings, ingest_settings, unfinished)


def evaluate(settings: Settings, model: str, data: str, output: str) -> Metrics:
    """Evaluates an exported encoder and writes `report.html`, `metrics.json` and the probe.

    Args:
        settings: `evaluator`, `data.max_rejected` and `beam` apply. The encoder is not compared with a champion.
        model: Path or URI of the SavedModel, or of a folder that the trainer wrote it to.
        data: Path or URI of ingested images, or of a source with labelled images.
        output: Path or URI of the folder for the results.

    Raises:
        DataError: If the images cannot be used.
        SettingsError: If there is no encoder, or if it or the ingested images are in S3.
    """
    storage.require_tensorflow(model, "MODEL")
    model = saved_model(model)
    with scratch_beside(output) as scratch, tempfile.TemporaryDirectory(prefix="nnclr-evaluate-") as local:
        examples = data
        if examples_artifact.is_artifact(data):
            storage.require_tensorflow(data, "--data")
        else:
            examples = f"{scratch}/examples"
            image_size = export.describe(model).image_size[0]
            ingest_settings = settings.data.narrow(IngestSettings).model_copy(update={"image_size": image_size})
            ingest_into(open_labelled(data, ingest_settings), settings, ingest_settings, examples)
        inputs = Inputs(
            pretraining=examples,
            labelled=examples,
            model=model,
            champion=None,
            scratch=f"{scratch}/embeddings",
            local_scratch=Path(local),
        )
        evaluation = evaluate_encoder(settings.evaluator.at(absolute), inputs, pipelines(settings))
        report = page.render(evaluation, model, _run_folder(model))
        evaluation_artifact.write_evaluation(
            output, evaluation.metrics, report, evaluation.probe, evaluation.predictions
        )
    return evaluation.metrics


def ingest_into(images: Source, settings: Settings, ingest_settings: IngestSettings, directory: str) -> Dataset:
    """Ingests a source into a folder."""
    return ingest_source(images, fingerprint(images), ingest_settings, directory, pipelines(settings))


def pipelines(settings: Settings) -> Callable[[], beam.Pipeline]:
    """Returns a function that makes Beam pipelines."""
    return lambda: beam.Pipeline(options=PipelineOptions(settings.beam_pipeline_args()))


@contextmanager
def _completed(output: str) -> Iterator[str]:
    """Yields a temporary folder that becomes `output`. In a bucket, which renames no folders, it is `output` itself."""
    if "://" in output:
        yield output
        return
    unfinished = Path(aside.beside(output))
    try:
        yield str(unfinished)
        unfinished.rename(output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def scratch_beside(output: str) -> Iterator[str]:
    """Yields a temporary folder beside `output`, where workers on other machines see it if they see the results."""
    folder = aside.beside(output)
    try:
        yield folder
    finally:
        if tf.io.gfile.exists(folder):
            tf.io.gfile.rmtree(folder)


def saved_model(folder: str) -> str:
    """Returns the folder of the SavedModel in a folder that the trainer wrote.

    Raises:
        SettingsError: If there is none.
    """
    for name in _MODEL_FOLDERS:
        path = posixpath.join(folder.rstrip("/"), name).rstrip("/")
        with storage.explained(folder, SettingsError):
            if artifact_files.exists(f"{path}/{_SAVED_MODEL}"):
                return path
    raise SettingsError(
        f"{folder} holds no SavedModel: name the folder that python -m trainer wrote, or that of an exported encoder."
    )


def _run_folder(model: str) -> str:
    """Returns the folder with the training's history, or one without a history if there is none beside the model."""
    return next(
        (f"{model}/{name}" for name in _RUN_FOLDERS if artifact_files.exists(f"{model}/{name}/history.csv")), model
    )
