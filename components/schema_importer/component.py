"""SchemaImporter's parameter and output, as TFX declares them."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel_utils, component_spec, standard_artifacts

from components.schema_importer import executor


class SchemaImporterSpec(component_spec.ComponentSpec):
    """Parameter and output of SchemaImporter."""

    PARAMETERS = {executor.TEXT: component_spec.ExecutionParameter(type=str)}
    INPUTS: dict = {}
    OUTPUTS = {executor.SCHEMA: component_spec.ChannelParameter(type=standard_artifacts.Schema)}


class SchemaImporter(base_component.BaseComponent):
    """Writes a schema as an artifact.

    TFX's ImportSchemaGen takes a path instead, which may not exist in another container. It is also cached by that
    path, so that a change of the schema would go unnoticed.

    Args:
        text: A `tensorflow_metadata` Schema as protobuf text.
    """

    SPEC_CLASS = SchemaImporterSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, text: str):
        super().__init__(
            spec=SchemaImporterSpec(text=text, schema=channel_utils.as_channel([standard_artifacts.Schema()]))
        )
