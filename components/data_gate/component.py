"""The contract of DataGate."""

from dataclasses import dataclass

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel, channel_utils, component_spec, standard_artifacts

from components.data_gate import artifact, executor
from components.data_gate.config import GateSettings


class DataGateSpec(component_spec.ComponentSpec):
    """Parameter, inputs and output of DataGate."""

    PARAMETERS = {executor.SETTINGS: component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        executor.EXAMPLES: component_spec.ChannelParameter(type=standard_artifacts.Examples),
        executor.STATISTICS: component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics),
        executor.ANOMALIES: component_spec.ChannelParameter(type=standard_artifacts.ExampleAnomalies),
        executor.CHAMPION: component_spec.ChannelParameter(type=standard_artifacts.Model),
        executor.LABELLED_EXAMPLES: component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True),
        executor.LABELLED_STATISTICS: component_spec.ChannelParameter(
            type=standard_artifacts.ExampleStatistics, optional=True
        ),
        executor.LABELLED_ANOMALIES: component_spec.ChannelParameter(
            type=standard_artifacts.ExampleAnomalies, optional=True
        ),
    }
    OUTPUTS = {artifact.DATA_CHECKS: component_spec.ChannelParameter(type=standard_artifacts.ExampleAnomalies)}


@dataclass(frozen=True)
class ValidatedExamples:
    """Examples and what TFX found out about them.

    Attributes:
        examples: The examples, from ImageExampleGen.
        statistics: Their statistics, from StatisticsGen.
        anomalies: Their anomalies, from ExampleValidator.
    """

    examples: channel.BaseChannel
    statistics: channel.BaseChannel
    anomalies: channel.BaseChannel


class DataGate(base_component.BaseComponent):
    """Judges the images of a run, and fails it if they are unfit. Place it upstream of each component that needs that.

    Args:
        images: The images to train on.
        champion: The champion, from ChampionResolver.
        settings: The checks, and what happens if one finds something.
        labelled: The separate labelled set to evaluate with, if there is one.
    """

    SPEC_CLASS = DataGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        images: ValidatedExamples,
        champion: channel.BaseChannel,
        settings: GateSettings,
        labelled: ValidatedExamples | None = None,
    ):
        spec = DataGateSpec(
            examples=images.examples,
            statistics=images.statistics,
            anomalies=images.anomalies,
            champion=champion,
            settings=settings.model_dump_json(),
            labelled_examples=labelled.examples if labelled else None,
            labelled_statistics=labelled.statistics if labelled else None,
            labelled_anomalies=labelled.anomalies if labelled else None,
            data_checks=channel_utils.as_channel([standard_artifacts.ExampleAnomalies()]),
        )
        super().__init__(spec=spec)
