"""The contract of RegistryPusher."""

import json
from typing import Any

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel, channel_utils, component_spec, standard_artifacts

from components.registry_pusher import executor


class RegistryPusherSpec(component_spec.ComponentSpec):
    """Parameters, inputs and output of RegistryPusher."""

    PARAMETERS = {
        executor.MODEL_NAME: component_spec.ExecutionParameter(type=str),
        executor.ALIAS: component_spec.ExecutionParameter(type=str),
        executor.REGISTRY_DIRECTORY: component_spec.ExecutionParameter(type=str),
        executor.PIPELINE_RUN: component_spec.ExecutionParameter(type=str),
        executor.RECIPE: component_spec.ExecutionParameter(type=str),
        executor.PROVENANCE: component_spec.ExecutionParameter(type=str),
        executor.ARTIFACT_LOCATION: component_spec.ExecutionParameter(type=str, optional=True),
        executor.SERVING_DIRECTORY: component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {
        executor.MODEL: component_spec.ChannelParameter(type=standard_artifacts.Model),
        executor.EVALUATION: component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        executor.BLESSING: component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    }
    OUTPUTS = {executor.PUSHED: component_spec.ChannelParameter(type=standard_artifacts.PushedModel)}


class RegistryPusher(base_component.BaseComponent):
    """Registers a blessed model and makes it the champion; does nothing for one that is not blessed.

    Args:
        model: from Trainer.
        evaluation: from LinearProbeEvaluator.
        blessing: from LinearProbeEvaluator.
        model_name: of the registered model.
        alias: that marks the champion.
        registry_directory: of the embedded registry, used when `MLFLOW_TRACKING_URI` is not set.
        pipeline_run: identity of the run. It is new in every run, so that a push, whose effect lies outside of the
            pipeline, is never taken from the cache.
        recipe: identity of the settings that decide on the encoder, for the record of the run.
        provenance: what else is recorded with the version, see `release.Candidate`.
        artifact_location: where the files of a new registered model go, if not to the registry's own place.
        serving_directory: that TensorFlow Serving watches; nothing is published without.
    """

    SPEC_CLASS = RegistryPusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        model: channel.BaseChannel,
        evaluation: channel.BaseChannel,
        blessing: channel.BaseChannel,
        model_name: str,
        alias: str,
        registry_directory: str,
        pipeline_run: str,
        recipe: str,
        provenance: dict[str, Any],
        artifact_location: str | None = None,
        serving_directory: str | None = None,
    ):
        spec = RegistryPusherSpec(
            model=model,
            evaluation=evaluation,
            blessing=blessing,
            model_name=model_name,
            alias=alias,
            registry_directory=registry_directory,
            pipeline_run=pipeline_run,
            recipe=recipe,
            provenance=json.dumps(provenance),
            artifact_location=artifact_location,
            serving_directory=serving_directory,
            pushed_model=channel_utils.as_channel([standard_artifacts.PushedModel()]),
        )
        super().__init__(spec=spec)
