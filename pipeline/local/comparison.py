"""Compares encoders of different origins: finds and loads them, ingests the images, and measures."""

import re
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
from components.linear_probe_evaluator.embedding import Encoder
from components.model_registry import ModelRegistry
from components.model_registry.contents import SAVED_MODEL
from pipeline.config import Settings
from pipeline.local import single_steps
from pipeline.local.paths import absolute
from pipeline.local.workdir import Workdir
from trainer import export, pretrained, settings_tree, storage
from trainer.config.networks import PretrainedSettings
from trainer.errors import SettingsError

_KERAS, _REGISTRY = "keras:", "models:/"
_ARGUMENT = "MODEL"
_FILE = "comparison.json"
# Ingest takes no smaller images.
_LEAST_SIZE = 31


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
        named = _distinct([_found(model, workdir, scratch, f"{scratch}/model-{i}") for i, model in enumerate(models)])
        examples = data
        if examples_artifact.is_artifact(data):
            storage.require_tensorflow(data, "--data")
        else:
            examples = f"{scratch}/examples"
            ingest_settings = _large_enough(settings.data.narrow(IngestSettings), [model.encoder for model in named])
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


def _large_enough(settings: IngestSettings, encoders: list[Encoder]) -> IngestSettings:
    """Returns settings that store images from which each encoder can be given its own size."""
    sizes = [side for encoder in encoders for side in encoder.size]
    smallest, largest = max(min(sizes), _LEAST_SIZE), max(*sizes, settings.stored_size or 0, _LEAST_SIZE)
    # Squares of one size are the fastest to read.
    stored = largest if largest > smallest or settings.stored_size else None
    return settings.model_copy(update={"image_size": smallest, "stored_size": stored})


def _found(model: str, workdir: Workdir, scratch: str, directory: str) -> Named:
    """Returns an encoder in a form that every Beam worker can read.

    Args:
        model: The encoder, as the command takes it.
        workdir: The working directory with the embedded model registry.
        scratch: Folder for files of the registry.
        directory: Folder to export a foreign network to.
    """
    if model.startswith(_REGISTRY):
        return _registered(model, workdir, scratch)
    if model.startswith("{"):
        return _foreign(settings_tree.validated(PretrainedSettings, settings_tree.parsed(model, _ARGUMENT)), directory)
    if model.startswith(_KERAS):
        network, _, weights = model.removeprefix(_KERAS).partition("=")
        given = {"network": network} | ({"weights": absolute(weights)} if weights else {})
        return _foreign(settings_tree.validated(PretrainedSettings, given), directory)
    storage.require_tensorflow(model, _ARGUMENT)
    path, name = absolute(model).rstrip("/"), model.rstrip("/").rpartition("/")[2]
    if not path.endswith(".keras") and tf.io.gfile.exists(path) and not tf.io.gfile.exists(f"{path}/config.json"):
        path = single_steps.saved_model(path)
        size = export.image_size(path)
        if size:
            return Named(name, Encoder(path, size))
    return _foreign(PretrainedSettings(network=path, name=name.removesuffix(".keras")), directory)


def _foreign(settings: PretrainedSettings, directory: str) -> Named:
    network = pretrained.load(settings, _ARGUMENT)
    pretrained.export_pretrained(network, directory)
    return Named(settings.title, Encoder(directory, network.size))


def _registered(uri: str, workdir: Workdir, scratch: str) -> Named:
    match = re.fullmatch(r"([^/@]+)[/@]([^/@]+)", uri.removeprefix(_REGISTRY))
    if not match:
        raise SettingsError(f"{uri} names no registered version: write {_REGISTRY}NAME/VERSION, a number or an alias.")
    name, version = match.groups()
    workdir.require_registry()
    registry = ModelRegistry(str(workdir.registry))
    if name not in registry.names():
        known = ", ".join(registry.names()) or "none"
        raise SettingsError(f"The registry has no model {name}. Registered models: {known}.")
    found = registry.version(name, int(version)) if version.isdigit() else registry.aliased(name, version)
    if found is None:
        raise SettingsError(f"{version} is neither the number of a version of {name} nor one of its aliases.")
    folder = registry.download(found, tempfile.mkdtemp(dir=None if "://" in scratch else scratch))
    path = str(folder / SAVED_MODEL)
    size = export.image_size(path)
    if size is None:
        raise SettingsError(f"{uri} does not say the size of its images: nnclr did not register it.")
    return Named(f"{name} version {found.version}", Encoder(path, size))


def _distinct(models: list[Named]) -> list[Named]:
    """Numbers encoders of the same name."""
    names = [model.name for model in models]
    return [
        model._replace(name=f"{model.name} ({names[: i + 1].count(model.name)})")
        if names.count(model.name) > 1
        else model
        for i, model in enumerate(models)
    ]
