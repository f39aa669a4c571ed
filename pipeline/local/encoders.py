"""Finds and loads encoders of different origins: released ones, exported ones, and networks of others."""

import difflib
import hashlib
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from components.embeddings.description import Model
from components.image_example_gen.config import IngestSettings
from components.linear_probe_evaluator.embedding import Encoder
from components.model_registry import ModelRegistry
from components.model_registry.contents import SAVED_MODEL
from pipeline.local import single_steps
from pipeline.local.paths import absolute
from pipeline.local.workdir import Workdir
from trainer import export, keras_networks, pretrained, settings_tree, storage
from trainer.config.networks import PretrainedSettings
from trainer.errors import SettingsError

_KERAS, _REGISTRY = "keras:", "models:/"
# A registered model and one of its versions.
_VERSION = r"([^/@:]+){separator}([^/@:]+)"
_SHORT, _LONG = _VERSION.format(separator="@"), _VERSION.format(separator="[/@]")
_ARGUMENT = "MODEL"
# Ingest takes no smaller images.
_LEAST_SIZE = 31
# The least similarity, up to 1, of a mistyped name.
_ALIKE = 0.8


@dataclass(frozen=True)
class Found:
    """An encoder that was found.

    Attributes:
        name: The name of the registered model, of the network or of the folder.
        version: The number of the registered version; None if the encoder is not from the registry.
        sha256: The sha256 of the registered version's manifest, or a hash of the network's files or weights.
        encoder: The encoder in a form that Beam's workers read.
    """

    name: str
    version: int | None
    sha256: str
    encoder: Encoder

    @property
    def title(self) -> str:
        """The name in reports."""
        return self.name if self.version is None else f"{self.name} version {self.version}"

    @property
    def uri(self) -> str | None:
        """The registered version by its number, as `found` takes it; None if the encoder is not from the registry."""
        return None if self.version is None else f"{_REGISTRY}{self.name}/{self.version}"

    @property
    def model(self) -> Model:
        """What a file of this encoder's embeddings says of it."""
        return Model(name=self.name, version=self.version, sha256=self.sha256)


def found(model: str, workdir: Workdir, directory: str) -> Found:
    """Returns an encoder in a form that every Beam worker can read.

    Args:
        model: The encoder: `models:/NAME/VERSION` or `NAME@VERSION`, where VERSION is a number or an alias;
            `keras:NETWORK`, `keras:NETWORK=WEIGHTS` or the name of a network of keras.applications; a mapping as in
            `evaluator.references.pretrained`; or the path of a SavedModel or of a Keras model.
        workdir: The working directory with the embedded model registry.
        directory: Folder to create if files of the encoder must be written, local or `gs://`; its parent exists.

    Raises:
        DamagedVersion: If files of a registered version are missing or have changed.
        SettingsError: If there is no such encoder, or if it cannot be used.
    """
    if model.startswith(_REGISTRY) or (re.fullmatch(_SHORT, model) and not tf.io.gfile.exists(absolute(model))):
        return _registered(model, workdir, directory)
    network = _network(model)
    if network:
        return _foreign(network, directory)
    storage.require_tensorflow(model, _ARGUMENT)
    path, name = absolute(model).rstrip("/"), model.rstrip("/").rpartition("/")[2]
    if not path.endswith(".keras") and tf.io.gfile.exists(path) and not tf.io.gfile.exists(f"{path}/config.json"):
        path = single_steps.saved_model(path)
        size = export.image_size(path)
        if size:
            return Found(name, None, keras_networks.fingerprint((path,)), Encoder(path, size))
    return _foreign(PretrainedSettings(network=path, name=name.removesuffix(".keras")), directory)


def of_embeddings(path: str, theirs: Model, model: str | None, workdir: Workdir, directory: str) -> Found:
    """Returns the encoder that a file of embeddings is of, see `found`.

    Args:
        path: Path or URI of the file.
        theirs: What the file says of its encoder.
        model: The encoder; None for the registered version that the file names.
        workdir: The working directory with the embedded model registry.
        directory: Folder to create if files of the encoder must be written.

    Raises:
        DamagedVersion: If files of a registered version are missing or have changed.
        SettingsError: If there is no such encoder, or if it is another one than that of the embeddings.
    """
    if model is None and theirs.version is None:
        raise SettingsError(f"The embeddings in {path} are of {theirs.title}: name this encoder with --model.")
    encoder = found(model or f"{_REGISTRY}{theirs.name}/{theirs.version}", workdir, directory)
    if encoder.sha256 != theirs.sha256:
        raise SettingsError(
            f"{path} has embeddings of {theirs.title}, not of {encoder.model.title}: name their encoder with --model, "
            "or embed the images with this one."
        )
    return encoder


def _network(model: str) -> PretrainedSettings | None:
    """Returns the network of keras.applications, or the mapping, that an argument names; None for a path."""
    if model.startswith("{"):
        return settings_tree.validated(PretrainedSettings, settings_tree.parsed(model, _ARGUMENT))
    if model.startswith(_KERAS):
        network, _, weights = model.removeprefix(_KERAS).partition("=")
        given = {"network": network} | ({"weights": absolute(weights)} if weights else {})
        return settings_tree.validated(PretrainedSettings, given)
    # A name that is almost right is refused with a hint.
    known = difflib.get_close_matches(model, keras_networks.application_names(), cutoff=_ALIKE)
    return PretrainedSettings(network=model) if known and not tf.io.gfile.exists(absolute(model)) else None


def large_enough(settings: IngestSettings, encoders: list[Encoder]) -> IngestSettings:
    """Returns settings that store images from which each encoder can be given its own size."""
    sizes = [side for encoder in encoders for side in encoder.size]
    smallest, largest = max(min(sizes), _LEAST_SIZE), max(*sizes, settings.stored_size or 0, _LEAST_SIZE)
    # Squares of one size are the fastest to read.
    stored = largest if largest > smallest or settings.stored_size else None
    return settings.model_copy(update={"image_size": smallest, "stored_size": stored})


def _foreign(settings: PretrainedSettings, directory: str) -> Found:
    network = pretrained.load(settings, _ARGUMENT)
    pretrained.export_pretrained(network, directory)
    # Where the files lie does not matter.
    chosen = settings.model_dump(exclude={"name", "weights"} | ({"network"} if settings.is_path else set()))
    contents = pretrained.fingerprint(settings) if settings.paths else _weights_hash(network.model)
    sha256 = hashlib.sha256(json.dumps([chosen, contents], sort_keys=True).encode()).hexdigest()
    return Found(settings.title, None, sha256, Encoder(directory, network.size))


def _weights_hash(model: Any) -> str:
    digest = hashlib.sha256()
    for variable in model.variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()


def _registered(model: str, workdir: Workdir, directory: str) -> Found:
    match = re.fullmatch(_LONG, model.removeprefix(_REGISTRY))
    if not match:
        raise SettingsError(
            f"{model} names no registered version: write {_REGISTRY}NAME/VERSION, a number or an alias."
        )
    name, version = match.groups()
    workdir.require_registry()
    registry = ModelRegistry(str(workdir.registry))
    if name not in registry.names():
        known = ", ".join(registry.names()) or "none"
        raise SettingsError(f"The registry has no model {name}. Registered models: {known}.")
    chosen = registry.version(name, int(version)) if version.isdigit() else registry.aliased(name, version)
    if chosen is None:
        raise SettingsError(f"{version} is neither the number of a version of {name} nor one of its aliases.")
    in_bucket = storage.in_bucket(directory)
    with tempfile.TemporaryDirectory(prefix="nnclr-model-") as temporary:
        if not in_bucket:
            Path(directory).mkdir()
        path = str(registry.download(chosen, temporary if in_bucket else directory) / SAVED_MODEL)
        size = export.image_size(path)
        if size is None:
            raise SettingsError(f"{chosen.uri} does not say the size of its images: nnclr did not register it.")
        if in_bucket:
            # Workers on other machines do not see this machine's temporary folder.
            files, target = storage.located(directory)
            files.put(f"{path}/", target, recursive=True)
            path = directory
    return Found(name, chosen.version, chosen.sha256, Encoder(path, size))
