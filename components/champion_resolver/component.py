"""The contract of ChampionResolver."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel_utils, component_spec, standard_artifacts

from components.champion_resolver import artifact, executor
from components.model_registry.config import ChampionSettings


class ChampionResolverSpec(component_spec.ComponentSpec):
    """Parameters and output of ChampionResolver."""

    PARAMETERS = {
        executor.SETTINGS: component_spec.ExecutionParameter(type=str),
        executor.REGISTRY_DIRECTORY: component_spec.ExecutionParameter(type=str),
        executor.REQUIRED: component_spec.ExecutionParameter(type=int),
        executor.EXPECTED: component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS: dict = {}
    OUTPUTS = {artifact.MODEL: component_spec.ChannelParameter(type=standard_artifacts.Model)}


class ChampionResolver(base_component.BaseComponent):
    """Looks up the version of a registered model that its alias points to, and fetches it.

    Args:
        settings: Which registered version is the champion.
        registry_directory: Folder of the embedded registry, which is used if `MLFLOW_TRACKING_URI` is not set.
        expected: Identity of the present champion. A cached result holds for this champion only; without it, the
            component must not be cached.
        required: Whether a champion that cannot be read fails the run.
    """

    SPEC_CLASS = ChampionResolverSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self, settings: ChampionSettings, registry_directory: str, expected: str | None = None, required: bool = True
    ):
        spec = ChampionResolverSpec(
            settings=settings.model_dump_json(),
            registry_directory=registry_directory,
            expected=expected,
            # Kubeflow Pipelines has no booleans in TFX's specs.
            required=int(required),
            model=channel_utils.as_channel([standard_artifacts.Model()]),
        )
        super().__init__(spec=spec)
