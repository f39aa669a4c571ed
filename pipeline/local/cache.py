"""When a component's earlier result is taken instead of running it: its cache key follows content, not places.

TFX's own key holds absolute paths, so that a working directory that was moved would start anew, and it knows nothing of
the code that runs, so that a result of old code would be served as new. Here the key of a component is made of its
parameters and inputs, with the working directory's path taken out, and of the sources of the code that it runs.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from components.image_example_gen.executor import FINGERPRINT, SOURCE
from pipeline import installation
from pipeline.local import code_fingerprint
from trainer import export, run_fn
from trainer.config import CHAMPION, TrainerSettings
from trainer.errors import UserError

logger = logging.getLogger("nnclr")

_HERE = "<working directory>"
_SHOWN_REASONS = 5


@contextmanager
def following_content(root: Path, memory: Path) -> Iterator[None]:
    """Lets TFX's launcher use these keys.

    Args:
        root: absolute path of the working directory.
        memory: file that remembers each component's last key, so that the log can say what changed.
    """
    # Imported late by TFX's own modules too; the launcher looks the function up in its module at each call.
    from tfx.orchestration.portable import cache_utils

    original = cache_utils.get_cache_context
    keys = _Keys(root, memory)
    cache_utils.get_cache_context = keys.context
    try:
        yield
    finally:
        cache_utils.get_cache_context = original


class _Keys:
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
        """The same as TFX's `cache_utils.get_cache_context`, with another key."""
        from tfx.orchestration.portable.mlmd import context_lib

        parts = self._parts(pipeline_info, executor_spec, input_artifacts or {}, parameters or {})
        node = pipeline_node.node_info.id
        caches = pipeline_node.execution_options.caching_options.enable_cache
        self._explain(node, parts, caches)
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
        """What the result depends on, by name."""
        parts = {"pipeline": pipeline_info.id, "executor": self._without_root(str(executor_spec))}
        for key, artifacts in sorted(inputs.items()):
            parts[f"input {key}"] = _hash(" ".join(self._without_root(str(a.mlmd_artifact)) for a in artifacts))
        # The images are what their fingerprint says, wherever they lie.
        known_by_content = {SOURCE} if parameters.get(FINGERPRINT) else set()
        for name, value in _flat(dict(parameters)):
            if name not in known_by_content:
                parts[name] = self._without_root(value)
        modules = _own_modules(str(executor_spec), parameters)
        parts["code"] = code_fingerprint.fingerprint(modules)
        parts["libraries"] = _libraries()
        if run_fn.__name__ in modules:
            parts |= _of_training(parameters)
        return parts

    def _without_root(self, text: str) -> str:
        return text.replace(self._root, _HERE)

    def _explain(self, node: str, parts: dict[str, str], caches: bool) -> None:
        before = _read(self._memory)
        last = before.get(node)
        if last is None:
            logger.info("%s: no earlier result is known.", node)
        elif not caches:
            logger.info("%s: its cache is off.", node)
        elif changed := sorted(name for name in last.keys() | parts.keys() if last.get(name) != parts.get(name)):
            more = f" and {len(changed) - _SHOWN_REASONS} more" if len(changed) > _SHOWN_REASONS else ""
            logger.info("%s: changed since its last run: %s%s.", node, ", ".join(changed[:_SHOWN_REASONS]), more)
        else:
            logger.info("%s: unchanged since its last run, whose result is used again if its files still exist.", node)
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        self._memory.write_text(json.dumps(before | {node: parts}))


def _libraries() -> str:
    """The versions of the libraries whose results may differ from version to version."""
    import apache_beam
    import keras
    import sklearn
    import tensorflow
    import tensorflow_data_validation
    from tfx import version as tfx

    modules = (apache_beam, keras, sklearn, tensorflow, tensorflow_data_validation, tfx)
    return " ".join(f"{module.__name__} {module.__version__}" for module in modules)


def _own_modules(executor_spec: str, parameters: Mapping[str, Any]) -> list[str]:
    """The modules of nnclr that a component starts with."""
    classes = [line.split('"')[1] for line in executor_spec.splitlines() if "class_path:" in line]
    entries = [*classes, str(parameters.get("run_fn") or "")]
    return [entry.rpartition(".")[0] for entry in entries if entry.partition(".")[0] in installation.PACKAGES]


def _of_training(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Content that settings only name: the code of a user's own encoder, and the weights of a warm start."""
    custom = json.loads(parameters["custom_config"])
    settings = TrainerSettings.model_validate_json(custom[run_fn.SETTINGS])
    parts = {"code of the encoder": code_fingerprint.of_encoder(settings.encoder.name)}
    if settings.warm_start and settings.warm_start != CHAMPION:
        try:
            parts["weights of the warm start"] = export.fingerprint(settings.warm_start)
        except UserError as error:
            # The Trainer says so.
            parts["weights of the warm start"] = str(error)
    return parts


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Names with dots, and texts, of a tree whose leaves may be JSON again."""
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
        return json.loads(memory.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
