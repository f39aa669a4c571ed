"""Reads ExampleValidator's anomalies and stops the run if there are any."""

import os
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from trainer.errors import DataError

STATISTICS = "statistics"
ANOMALIES = "anomalies"

_ANOMALIES_FILE = "SchemaDiff.pb"


class Executor(base_executor.BaseExecutor):
    """Raises a `DataError` that lists all anomalies."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        statistics = artifact_utils.get_single_instance(input_dict[STATISTICS])
        anomalies = artifact_utils.get_single_instance(input_dict[ANOMALIES])
        sentences = []
        for split in artifact_utils.decode_split_names(anomalies.split_names):
            # Ingest allows empty splits, and ExampleValidator reports every feature of an empty split as missing.
            if not stats_artifact_utils.load_statistics(statistics, split).proto().datasets[0].num_examples:
                continue
            stored = io_utils.read_bytes_file(
                os.path.join(artifact_utils.get_split_uri([anomalies], split), _ANOMALIES_FILE)
            )
            sentences += describe(split, anomalies_pb2.Anomalies.FromString(stored))
        if sentences:
            raise DataError(
                f"The data failed validation, so nothing was trained: {' '.join(sentences)} "
                "The rules are in pipeline/schema/schema.pbtxt."
            )


def describe(split: str, anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """Describes each anomaly of a split in a sentence that names the split and the feature."""
    sentences = []
    for feature, anomaly in sorted(anomalies.anomaly_info.items()):
        reasons = "; ".join(reason.description.rstrip(".") for reason in anomaly.reason)
        sentences.append(f"Split {split}, feature {feature}: {reasons}.")
    for reason in anomalies.dataset_anomaly_info.reason:
        sentences.append(f"Split {split}: {reason.description.rstrip('.')}.")
    return sentences
