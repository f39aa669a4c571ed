"""The contract of DataResolver."""

import json
from typing import Any

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel_utils, component_spec, standard_artifacts

from components.data_resolver import executor

_OUTPUTS = (
    *(executor.FOUND_SOURCE, executor.FOUND_FINGERPRINT, executor.LABELLED_FINGERPRINT),
    *(executor.RECIPE, executor.NEWS),
)


class DataResolverSpec(component_spec.ComponentSpec):
    """Parameters and outputs of DataResolver."""

    PARAMETERS = {
        executor.SOURCE: component_spec.ExecutionParameter(type=str),
        executor.SPAN: component_spec.ExecutionParameter(type=str),
        executor.SETTLED_MINUTES: component_spec.ExecutionParameter(type=float),
        executor.FINGERPRINT: component_spec.ExecutionParameter(type=str),
        executor.LABELLED_SOURCE: component_spec.ExecutionParameter(type=str),
        executor.SETTINGS: component_spec.ExecutionParameter(type=str),
        executor.ONLY_NEW: component_spec.ExecutionParameter(type=int),
        executor.MODEL_NAME: component_spec.ExecutionParameter(type=str),
        executor.REGISTRY_DIRECTORY: component_spec.ExecutionParameter(type=str),
        executor.PIPELINE_RUN: component_spec.ExecutionParameter(type=str),
    }
    INPUTS: dict = {}
    OUTPUTS = {name: component_spec.ChannelParameter(type=standard_artifacts.String) for name in _OUTPUTS}


class DataResolver(base_component.BaseComponent):
    """Says, as values, which images a run works on, their fingerprints, the recipe, and whether any of it is new.

    Args:
        source: a place of images, or a pattern of many, see `spans`.
        span: name of the span to take; the newest complete one if empty.
        settled_minutes: see `spans.newest`.
        fingerprint: of the source, if it need not be computed; else empty.
        labelled_source: place of a labelled set of its own; else empty.
        settings: that decide on the encoder; their identity is the recipe.
        only_new: whether images and recipe of an earlier run are old.
        model_name: of the registered model, whose runs are looked into.
        registry_directory: of the embedded registry, used when `MLFLOW_TRACKING_URI` is not set.
        pipeline_run: identity of the run; it is new in every run, so that no cache answers.
    """

    SPEC_CLASS = DataResolverSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        source: str,
        span: str,
        settled_minutes: float | None,
        fingerprint: str,
        labelled_source: str,
        settings: dict[str, Any],
        only_new: bool,
        model_name: str,
        registry_directory: str,
        pipeline_run: str,
    ):
        spec = DataResolverSpec(
            source=source,
            span=span,
            settled_minutes=executor.NEVER if settled_minutes is None else settled_minutes,
            fingerprint=fingerprint,
            labelled_source=labelled_source,
            settings=json.dumps(settings),
            # Kubeflow knows no booleans.
            only_new=int(only_new),
            model_name=model_name,
            registry_directory=registry_directory,
            pipeline_run=pipeline_run,
            **{name: channel_utils.as_channel([standard_artifacts.String()]) for name in _OUTPUTS},
        )
        super().__init__(spec=spec)
