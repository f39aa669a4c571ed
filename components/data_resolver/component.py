"""The contract of DataResolver."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel_utils, component_spec, standard_artifacts

from components.data_resolver import artifact, executor
from components.run_settings import RunSettings


class DataResolverSpec(component_spec.ComponentSpec):
    """Parameters and outputs of DataResolver."""

    PARAMETERS = {
        executor.SETTINGS: component_spec.ExecutionParameter(type=str),
        executor.REGISTRY_DIRECTORY: component_spec.ExecutionParameter(type=str),
        executor.PIPELINE_RUN: component_spec.ExecutionParameter(type=str),
    }
    INPUTS: dict = {}
    OUTPUTS = {name: component_spec.ChannelParameter(type=standard_artifacts.String) for name in artifact.OUTPUTS}


class DataResolver(base_component.BaseComponent):
    """Resolves what the cached results of other components depend on.

    These are the span and the fingerprint of the data, whether an earlier run used the same data and settings, and the
    identity of the champion.

    Args:
        settings: All settings of the run.
        registry_directory: Folder of the embedded registry, which is used if `MLFLOW_TRACKING_URI` is not set.
        pipeline_run: Id of the run. It differs in every run, so that the result is never taken from the cache.
    """

    SPEC_CLASS = DataResolverSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, settings: RunSettings, registry_directory: str, pipeline_run: str):
        spec = DataResolverSpec(
            settings=settings.model_dump_json(),
            registry_directory=registry_directory,
            pipeline_run=pipeline_run,
            **{name: channel_utils.as_channel([standard_artifacts.String()]) for name in artifact.OUTPUTS},
        )
        super().__init__(spec=spec)
