"""The contract of ChampionResolver."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel_utils, component_spec, standard_artifacts

from components.champion_resolver import executor


class ChampionResolverSpec(component_spec.ComponentSpec):
    """Parameters and output of ChampionResolver."""

    PARAMETERS = {
        executor.MODEL_NAME: component_spec.ExecutionParameter(type=str),
        executor.ALIAS: component_spec.ExecutionParameter(type=str),
        executor.REGISTRY_DIRECTORY: component_spec.ExecutionParameter(type=str),
        executor.REQUIRED: component_spec.ExecutionParameter(type=int),
        executor.EXPECTED: component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS: dict = {}
    OUTPUTS = {executor.MODEL: component_spec.ChannelParameter(type=standard_artifacts.Model)}


class ChampionResolver(base_component.BaseComponent):
    """Looks up which version of a registered model its alias points to, and fetches it.

    Args:
        model_name: of the registered model.
        alias: that marks the champion.
        registry_directory: of the embedded registry, used when `MLFLOW_TRACKING_URI` is not set.
        expected: identity of the champion as it is now. A cached result stands for this champion and no other; an
            orchestrator that cannot say it beforehand must not cache this component.
        required: stop where there is a champion that cannot be read.
    """

    SPEC_CLASS = ChampionResolverSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        model_name: str,
        alias: str,
        registry_directory: str,
        expected: str | None = None,
        required: bool = True,
    ):
        spec = ChampionResolverSpec(
            model_name=model_name,
            alias=alias,
            registry_directory=registry_directory,
            expected=expected,
            # Kubeflow knows no booleans.
            required=int(required),
            model=channel_utils.as_channel([standard_artifacts.Model()]),
        )
        super().__init__(spec=spec)
