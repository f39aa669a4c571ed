"""Writes the schema to the file that TFX's components read."""

import os
from typing import Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.components.schema_gen.executor import DEFAULT_FILE_NAME
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components import outputs

TEXT, SCHEMA = "text", "schema"


class Executor(base_executor.BaseExecutor):
    """Parses the schema, which checks it, and writes it as `schema.pbtxt`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        outputs.empty(output_dict)
        schema = text_format.Parse(exec_properties[TEXT], schema_pb2.Schema())
        directory = artifact_utils.get_single_uri(output_dict[SCHEMA])
        io_utils.write_pbtxt_file(os.path.join(directory, DEFAULT_FILE_NAME), schema)
