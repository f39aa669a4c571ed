"""The contract of LinearProbeEvaluator."""

from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import channel, channel_utils, component_spec, standard_artifacts

from components.linear_probe_evaluator import artifact, executor
from components.linear_probe_evaluator.config import EvaluatorSettings


class LinearProbeEvaluatorSpec(component_spec.ComponentSpec):
    """Parameters, inputs and outputs of LinearProbeEvaluator."""

    PARAMETERS = {executor.SETTINGS: component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        executor.EXAMPLES: component_spec.ChannelParameter(type=standard_artifacts.Examples),
        executor.LABELLED_EXAMPLES: component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True),
        executor.MODEL_RUN: component_spec.ChannelParameter(type=standard_artifacts.ModelRun),
        executor.MODEL: component_spec.ChannelParameter(type=standard_artifacts.Model),
        executor.CHAMPION: component_spec.ChannelParameter(type=standard_artifacts.Model),
        executor.DATA_CHECKS: component_spec.ChannelParameter(type=standard_artifacts.ExampleAnomalies),
    }
    OUTPUTS = {
        artifact.EVALUATION: component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        artifact.BLESSING: component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class LinearProbeEvaluator(base_beam_component.BaseBeamComponent):
    """Measures an encoder by a linear probe and blesses it if it is good enough to replace the champion.

    Args:
        examples: Examples that the encoder was pretrained on, from ImageExampleGen.
        model: The candidate, from Trainer.
        model_run: Logs of the training, from Trainer.
        champion: The champion, from ChampionResolver.
        data_checks: The verdicts on the images, from DataGate, which the report shows.
        settings: What is measured, and what the candidate must reach.
        labelled_examples: Examples with the splits `train` and `test`. By default those of `examples`.
    """

    SPEC_CLASS = LinearProbeEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        model: channel.BaseChannel,
        model_run: channel.BaseChannel,
        champion: channel.BaseChannel,
        data_checks: channel.BaseChannel,
        settings: EvaluatorSettings,
        labelled_examples: channel.BaseChannel | None = None,
    ):
        spec = LinearProbeEvaluatorSpec(
            examples=examples,
            labelled_examples=labelled_examples,
            model=model,
            model_run=model_run,
            champion=champion,
            data_checks=data_checks,
            settings=settings.model_dump_json(),
            evaluation=channel_utils.as_channel([standard_artifacts.ModelEvaluation()]),
            blessing=channel_utils.as_channel([standard_artifacts.ModelBlessing()]),
        )
        super().__init__(spec=spec)
