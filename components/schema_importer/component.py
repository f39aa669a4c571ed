"""The contract of SchemaImporter."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel_utils, component_spec, standard_artifacts

from components.schema_importer import executor


class SchemaImporterSpec(component_spec.ComponentSpec):
    """Parameter and output of SchemaImporter."""

    PARAMETERS = {executor.TEXT: component_spec.ExecutionParameter(type=str)}
    INPUTS: dict = {}
    OUTPUTS = {executor.SCHEMA: component_spec.ChannelParameter(type=standard_artifacts.Schema)}


class SchemaImporter(base_component.BaseComponent):
    """Makes a schema an artifact.

    TFX's ImportSchemaGen takes a path, which means nothing in another container, and is cached by that path: it would
    not notice that the schema was edited.

    Args:
        text: a `tensorflow_metadata` Schema as protobuf text.
    """

    SPEC_CLASS = SchemaImporterSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, text: str):
        super().__init__(
            spec=SchemaImporterSpec(text=text, schema=channel_utils.as_channel([standard_artifacts.Schema()]))
        )
