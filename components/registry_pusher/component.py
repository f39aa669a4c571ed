"""The contract of RegistryPusher."""

from typing import Any

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel, channel_utils, component_spec, standard_artifacts

from components.registry_pusher import artifact, executor
from components.registry_pusher.provenance import CodeVersion
from components.run_settings import RunSettings


class RegistryPusherSpec(component_spec.ComponentSpec):
    """Parameters, inputs and output of RegistryPusher."""

    PARAMETERS = {
        executor.SETTINGS: component_spec.ExecutionParameter(type=str),
        executor.SETTINGS_FINGERPRINT: component_spec.ExecutionParameter(type=str),
        executor.REGISTRY_DIRECTORY: component_spec.ExecutionParameter(type=str),
        executor.PIPELINE_RUN: component_spec.ExecutionParameter(type=str),
        executor.CODE: component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        executor.MODEL: component_spec.ChannelParameter(type=standard_artifacts.Model),
        executor.EVALUATION: component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        executor.BLESSING: component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
        executor.DATA_CHECKS: component_spec.ChannelParameter(type=standard_artifacts.ExampleAnomalies),
    }
    OUTPUTS = {artifact.PUSHED: component_spec.ChannelParameter(type=standard_artifacts.PushedModel)}


class RegistryPusher(base_component.BaseComponent):
    """Registers a blessed model and makes it the champion, or with manual approval the challenger.

    Does nothing for a model that is not blessed.

    Args:
        model: The model, from Trainer.
        evaluation: The evaluation, from LinearProbeEvaluator.
        blessing: The blessing, from LinearProbeEvaluator.
        data_checks: The statistics of the images, from DataGate.
        settings: All settings of the run. Those of the section `registry` are obeyed, all of them are recorded.
        settings_fingerprint: Fingerprint of the settings, for the record of the run.
        registry_directory: Folder of the embedded registry, which is used if `MLFLOW_TRACKING_URI` is not set.
        pipeline_run: Id of the run. It differs in every run, so that a push, whose effect lies outside of the pipeline,
            is never taken from the cache.
        code: The code that made the model.
    """

    SPEC_CLASS = RegistryPusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        model: channel.BaseChannel,
        evaluation: channel.BaseChannel,
        blessing: channel.BaseChannel,
        data_checks: channel.BaseChannel,
        settings: RunSettings,
        settings_fingerprint: Any,
        registry_directory: str,
        pipeline_run: str,
        code: CodeVersion,
    ):
        spec = RegistryPusherSpec(
            model=model,
            evaluation=evaluation,
            blessing=blessing,
            data_checks=data_checks,
            settings=settings.model_dump_json(),
            settings_fingerprint=settings_fingerprint,
            registry_directory=registry_directory,
            pipeline_run=pipeline_run,
            code=code.model_dump_json(),
            pushed_model=channel_utils.as_channel([standard_artifacts.PushedModel()]),
        )
        super().__init__(spec=spec)
