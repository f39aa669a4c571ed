"""DataGate's inputs, as TFX declares them."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel, component_spec, standard_artifacts

from components.data_gate import executor


class DataGateSpec(component_spec.ComponentSpec):
    """Inputs of DataGate."""

    PARAMETERS: dict = {}
    INPUTS = {
        executor.STATISTICS: component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics),
        executor.ANOMALIES: component_spec.ChannelParameter(type=standard_artifacts.ExampleAnomalies),
    }
    OUTPUTS: dict = {}


class DataGate(base_component.BaseComponent):
    """Fails the run if ExampleValidator found anomalies. Place it upstream of each component that needs valid data.

    Args:
        statistics: The statistics from StatisticsGen.
        anomalies: The anomalies from ExampleValidator.
    """

    SPEC_CLASS = DataGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, statistics: channel.BaseChannel, anomalies: channel.BaseChannel):
        super().__init__(spec=DataGateSpec(statistics=statistics, anomalies=anomalies))
