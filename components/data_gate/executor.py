"""Reads statistics, anomalies and the champion's statistics; stops the run, or writes the verdicts."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatistics
from tfx import types
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components import artifact_files, outputs
from components.champion_resolver import artifact as champion_artifact
from components.data_gate import artifact, statistics
from components.data_gate.checks import Champion, judge
from components.data_gate.config import GateSettings
from components.data_gate.statistics import Split
from components.image_example_gen import artifact as examples_artifact

SETTINGS = "settings"
EXAMPLES, STATISTICS, ANOMALIES, CHAMPION = "examples", "statistics", "anomalies", "champion"
LABELLED_EXAMPLES, LABELLED_STATISTICS = "labelled_examples", "labelled_statistics"
LABELLED_ANOMALIES = "labelled_anomalies"

_ANOMALIES_FILE = "SchemaDiff.pb"

logger = logging.getLogger("nnclr")


class Executor(base_executor.BaseExecutor):
    """Raises `RefusedData` with all findings that fail the run. Otherwise logs warnings, and writes all verdicts."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        outputs.empty(output_dict)
        settings = GateSettings.model_validate_json(exec_properties[SETTINGS])
        found = _splits(input_dict[EXAMPLES], input_dict[STATISTICS])
        sentences = _anomalies(input_dict[ANOMALIES], found)
        if input_dict.get(LABELLED_EXAMPLES):
            separate = _splits(input_dict[LABELLED_EXAMPLES], input_dict[LABELLED_STATISTICS], separate=True)
            sentences += _anomalies(input_dict[LABELLED_ANOMALIES], separate)
            found += separate
        champion = _champion(artifact_utils.get_single_uri(input_dict[CHAMPION]))
        checks = judge(settings, found, sentences, champion)
        missed = [(getattr(settings, check.name), check) for check in checks if not check.passed]
        for action, check in missed:
            if action == "warn":
                for sentence in check.sentences:
                    logger.warning("%s", sentence)
        failed = [check for action, check in missed if action == "fail"]
        if failed:
            names = [f"gate.{check.name}" for check in failed]
            raise artifact.RefusedData(
                "The data failed validation, so nothing was trained: "
                f"{' '.join(sentence for check in failed for sentence in check.sentences)} "
                f"To train nevertheless, set {' and '.join(names)} to warn.",
                tuple(sentence for _, check in missed for sentence in check.sentences),
            )
        artifact.write(artifact_utils.get_single_uri(output_dict[artifact.DATA_CHECKS]), checks, statistics.kept(found))


def describe(title: str, anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """Describes each anomaly of a split in a sentence that names the split and the feature."""
    sentences = []
    for feature, anomaly in sorted(anomalies.anomaly_info.items()):
        reasons = "; ".join(reason.description.rstrip(".") for reason in anomaly.reason)
        sentences.append(f"Split {title}, feature {feature}: {reasons}.")
    for reason in anomalies.dataset_anomaly_info.reason:
        sentences.append(f"Split {title}: {reason.description.rstrip('.')}.")
    return sentences


def _splits(examples: list[types.Artifact], stats: list[types.Artifact], separate: bool = False) -> list[Split]:
    """Reads the splits that have images: ingest allows empty ones, whose features all seem to be missing."""
    dataset = examples_artifact.read(artifact_utils.get_single_uri(examples))
    computed = artifact_utils.get_single_instance(stats)
    return [
        Split(name, _statistics(computed, name), dataset.class_names, separate)
        for name, count in dataset.counts.items()
        if count
    ]


def _statistics(computed: types.Artifact, split: str) -> DatasetFeatureStatistics:
    directory = artifact_utils.get_split_uri([computed], split)
    with _undamaged(os.path.join(directory, stats_artifact_utils.BINARY_PB_BASENAME)):
        return stats_artifact_utils.load_statistics(computed, split).proto().datasets[0]


def _anomalies(anomalies: list[types.Artifact], found: list[Split]) -> list[str]:
    sentences = []
    for split in found:
        path = os.path.join(artifact_utils.get_split_uri(anomalies, split.name), _ANOMALIES_FILE)
        with _undamaged(path):
            found_here = anomalies_pb2.Anomalies.FromString(_not_empty(io_utils.read_bytes_file(path)))
        sentences += describe(split.title, found_here)
    return sentences


def _champion(directory: str) -> Champion | None:
    champion, content = champion_artifact.read(directory).champion, champion_artifact.read_statistics(directory)
    if champion is None:
        return None
    with _undamaged(champion_artifact.statistics_path(directory)):
        return Champion(str(champion), {} if content is None else statistics.read_kept(_not_empty(content)))


@contextmanager
def _undamaged(path: str) -> Iterator[None]:
    """Names a file of statistics or anomalies whose content cannot be decoded, or is empty."""
    try:
        yield
    except (DecodeError, IndexError) as error:
        raise artifact_files.DamagedFile(
            f"{path} is damaged: restore it, or create it again with nnclr run --no-cache."
        ) from error


def _not_empty(content: bytes) -> bytes:
    # Protobuf takes nothing for a message without values.
    if not content:
        raise DecodeError("The file is empty.")
    return content
