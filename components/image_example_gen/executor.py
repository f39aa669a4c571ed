"""Runs ingest in TFX."""

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils

from components import outputs
from components.image_example_gen.artifact import EXAMPLES
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.fingerprint import require
from components.image_example_gen.ingest import ingest
from components.image_example_gen.sources.opening import open_labelled, open_source
from trainer import splits

SETTINGS, SOURCE, FINGERPRINT, LABELLED_ONLY = "settings", "source", "fingerprint", "labelled_only"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Ingests `source` and writes the artifact `examples`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        outputs.empty(output_dict)
        artifact = artifact_utils.get_single_instance(output_dict[EXAMPLES])
        open_images = open_labelled if exec_properties[LABELLED_ONLY] else open_source
        settings = IngestSettings.model_validate_json(exec_properties[SETTINGS])
        source, fingerprint = open_images(exec_properties[SOURCE], settings), exec_properties[FINGERPRINT]
        require(source, fingerprint)
        ingest(source, fingerprint, settings, artifact.uri, self._make_beam_pipeline)
        artifact.split_names = artifact_utils.encode_split_names(list(splits.SPLITS))
        artifact.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
        artifact.set_string_custom_property(FINGERPRINT, fingerprint)
