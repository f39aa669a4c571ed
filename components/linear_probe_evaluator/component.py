"""The contract of LinearProbeEvaluator."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel, channel_utils, component_spec, standard_artifacts

from components.linear_probe_evaluator import executor
from components.linear_probe_evaluator.config import EvaluatorSettings


class LinearProbeEvaluatorSpec(component_spec.ComponentSpec):
    """Parameters, inputs and outputs of LinearProbeEvaluator."""

    PARAMETERS = {executor.SETTINGS: component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        executor.EXAMPLES: component_spec.ChannelParameter(type=standard_artifacts.Examples),
        executor.MODEL: component_spec.ChannelParameter(type=standard_artifacts.Model),
        executor.CHAMPION: component_spec.ChannelParameter(type=standard_artifacts.Model),
    }
    OUTPUTS = {
        executor.EVALUATION: component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        executor.BLESSING: component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class LinearProbeEvaluator(base_component.BaseComponent):
    """Measures an encoder by a linear probe and blesses it if it is good enough to replace the champion.

    Args:
        examples: from ImageExampleGen, with the splits `train` and `test`.
        model: the candidate, from Trainer.
        champion: from ChampionResolver.
        settings: what must be reached.
    """

    SPEC_CLASS = LinearProbeEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        model: channel.BaseChannel,
        champion: channel.BaseChannel,
        settings: EvaluatorSettings,
    ):
        spec = LinearProbeEvaluatorSpec(
            examples=examples,
            model=model,
            champion=champion,
            settings=settings.model_dump_json(),
            evaluation=channel_utils.as_channel([standard_artifacts.ModelEvaluation()]),
            blessing=channel_utils.as_channel([standard_artifacts.ModelBlessing()]),
        )
        super().__init__(spec=spec)
