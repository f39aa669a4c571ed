"""The cache keys of components, which depend on content instead of paths.

A component with an unchanged key reuses its earlier result. TFX's own keys contain absolute paths, so that a working
directory that was moved would lose its cache; and they ignore the code, so that a result of old code would be reused
after an upgrade. The keys here consist of a component's parameters and inputs, without the path of the working
directory, and of a hash of the source code that the component runs.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2
from pydantic import TypeAdapter, ValidationError

from components.image_example_gen import executor as ingest_executor
from components.image_example_gen.executor import FINGERPRINT, SOURCE
from components.linear_probe_evaluator import executor as evaluator_executor
from components.linear_probe_evaluator.config import EvaluatorSettings
from pipeline import installation
from pipeline.local import code_fingerprint
from trainer import encoders, export, pretrained, run_fn
from trainer.config import CHAMPION, TrainerSettings
from trainer.errors import UserError

logger = logging.getLogger("nnclr")

_WORKDIR_PLACEHOLDER = "<working directory>"
_SHOWN_CHANGES = 5
# The parts of each component's last key.
_PARTS = TypeAdapter(dict[str, dict[str, str]])


@contextmanager
def following_content(root: Path, memory: Path) -> Iterator[None]:
    """Makes TFX's launcher use these cache keys.

    Args:
        root: The absolute path of the working directory.
        memory: The file that stores the parts of each component's last key, so that the log can name what changed.
    """
    # The launcher looks the function up in its module at each call, so that replacing it there is enough.
    from tfx.orchestration.portable import cache_utils

    original = cache_utils.get_cache_context
    keys = _CacheKeys(root, memory)
    cache_utils.get_cache_context = keys.context
    try:
        yield
    finally:
        cache_utils.get_cache_context = original


class _CacheKeys:
    """Computes cache keys, and logs why a component does or does not reuse its result. See `following_content`."""

    def __init__(self, root: Path, memory: Path):
        self._root, self._memory = str(root), memory

    def context(
        self,
        metadata_handle: Any,
        pipeline_node: Any,
        pipeline_info: Any,
        executor_spec: Any = None,
        input_artifacts: Mapping[str, Sequence[Any]] | None = None,
        output_artifacts: Mapping[str, Sequence[Any]] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replaces TFX's `cache_utils.get_cache_context`, with the same arguments and a different key."""
        from tfx.orchestration.portable.mlmd import context_lib

        parts = self._parts(pipeline_info, executor_spec, input_artifacts or {}, parameters or {})
        node = pipeline_node.node_info.id
        cache_enabled = pipeline_node.execution_options.caching_options.enable_cache
        self._log_changes(node, parts, cache_enabled)
        return context_lib.register_context_if_not_exists(
            metadata_handle=metadata_handle,
            context_type_name=context_lib.CONTEXT_TYPE_EXECUTION_CACHE,
            context_name=_hash(json.dumps([node, parts], sort_keys=True)),
        )

    def _parts(
        self,
        pipeline_info: Any,
        executor_spec: Any,
        inputs: Mapping[str, Sequence[Any]],
        parameters: Mapping[str, Any],
    ) -> dict[str, str]:
        """Returns everything that the result of a component depends on, as text or hashes by name."""
        parts = {"pipeline": pipeline_info.id, "executor": self._without_root(str(executor_spec))}
        for key, artifacts in sorted(inputs.items()):
            parts[f"input {key}"] = _hash(" ".join(self._described(artifact.mlmd_artifact) for artifact in artifacts))
        # A fingerprint identifies the images, so that their path does not matter.
        known_by_content = {SOURCE} if parameters.get(FINGERPRINT) else set()
        for name, value in _flat(dict(parameters)):
            if name not in known_by_content:
                parts[name] = self._without_root(value)
        modules = _entry_modules(str(executor_spec), parameters)
        parts["code"] = code_fingerprint.modules_fingerprint(modules)
        parts["libraries"] = _libraries()
        if run_fn.__name__ in modules:
            parts |= _training_parts(parameters)
        if evaluator_executor.__name__ in modules:
            parts |= _reference_parts(parameters)
        if ingest_executor.__name__ in modules and (code := code_fingerprint.sources_fingerprint()):
            parts["code of declared sources"] = code
        return parts

    def _described(self, artifact: metadata_store_pb2.Artifact) -> str:
        # Before it becomes text, in which quotes and letters that are not ASCII are escaped.
        described = metadata_store_pb2.Artifact()
        described.CopyFrom(artifact)
        described.uri = self._without_root(described.uri)
        return str(described)

    def _without_root(self, text: str) -> str:
        return text.replace(self._root, _WORKDIR_PLACEHOLDER)

    def _log_changes(self, node: str, parts: dict[str, str], cache_enabled: bool) -> None:
        last_parts = _read(self._memory)
        last = last_parts.get(node)
        if last is None:
            logger.info("%s: no earlier result is known.", node)
        elif not cache_enabled:
            logger.info("%s: the cache is disabled.", node)
        elif changed := sorted(name for name in last.keys() | parts.keys() if last.get(name) != parts.get(name)):
            more = f" and {len(changed) - _SHOWN_CHANGES} more" if len(changed) > _SHOWN_CHANGES else ""
            logger.info("%s: changed since the last run: %s%s.", node, ", ".join(changed[:_SHOWN_CHANGES]), more)
        else:
            logger.info("%s: unchanged since the last run; its result is reused if the files still exist.", node)
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        self._memory.write_text(json.dumps(last_parts | {node: parts}))


def _libraries() -> str:
    """Returns the versions of the libraries on which the results of components may depend."""
    import apache_beam
    import keras
    import sklearn
    import tensorflow
    import tensorflow_data_validation
    from tfx import version as tfx

    modules = (apache_beam, keras, sklearn, tensorflow, tensorflow_data_validation, tfx)
    return " ".join(f"{module.__name__} {module.__version__}" for module in modules)


def _entry_modules(executor_spec: str, parameters: Mapping[str, Any]) -> list[str]:
    """Returns the modules of nnclr that TFX loads for a component: those of its executor and of its `run_fn`."""
    classes = [line.split('"')[1] for line in executor_spec.splitlines() if "class_path:" in line]
    entries = [*classes, str(parameters.get("run_fn") or "")]
    return [entry.rpartition(".")[0] for entry in entries if entry.partition(".")[0] in installation.PACKAGES]


def _training_parts(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Hashes content that the settings only name: the code of a user's own encoder, and the weights of a warm start."""
    custom = json.loads(parameters["custom_config"])
    settings = TrainerSettings.model_validate_json(custom[run_fn.SETTINGS])
    parts = {"code of the encoder": code_fingerprint.encoder_fingerprint(settings.encoder)}
    try:
        parts["files of the encoder"] = encoders.start_fingerprint(settings.encoder)
    except UserError as error:
        # The Trainer reports this error.
        parts["files of the encoder"] = str(error)
    if settings.warm_start and settings.warm_start != CHAMPION:
        try:
            parts["weights of the warm start"] = export.fingerprint(settings.warm_start)
        except UserError as error:
            # The Trainer reports this error.
            parts["weights of the warm start"] = str(error)
    return parts


def _reference_parts(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Hashes the files of the networks that an encoder is compared with."""
    settings = EvaluatorSettings.model_validate_json(parameters[evaluator_executor.SETTINGS])
    parts = {}
    for network in settings.references.pretrained:
        try:
            parts[f"files of {network.title}"] = pretrained.fingerprint(network)
        except tf.errors.OpError as error:
            # The evaluator reports this error.
            parts[f"files of {network.title}"] = str(error)
    return parts


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yields the dotted name and the text of each leaf of a tree; objects that are JSON texts count as subtrees."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        with suppress(json.JSONDecodeError):
            value = json.loads(value)
    if isinstance(value, dict):
        for key, inner in sorted(value.items()):
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, str(value)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(memory: Path) -> dict[str, dict[str, str]]:
    try:
        return _PARTS.validate_json(memory.read_bytes())
    except (FileNotFoundError, ValidationError):
        return {}
