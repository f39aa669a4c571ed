"""The gate reads anomalies that TFDV computes from real statistics and the curated schema."""

from importlib import resources
from pathlib import Path

# TFX first: it brings a module that this TFDV misses.
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

# isort: split
import numpy as np
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.data_gate import executor
from trainer.errors import DataError


@pytest.fixture(scope="module")
def schema() -> schema_pb2.Schema:
    text = (resources.files("pipeline") / "schema" / "schema.pbtxt").read_text()
    return text_format.Parse(text, schema_pb2.Schema())


def rows(count: int = 20, **changes) -> dict[str, list]:
    good = {"label": 3, "height": 48, "width": 48, "pixel_mean": 0.4, "pixel_std": 0.2}
    table = {name: [value] * count for name, value in good.items()}
    for name, value in changes.items():
        if value is None:
            del table[name]
        else:
            table[name][0] = value
    return table


def run_gate(tmp_path: Path, schema: schema_pb2.Schema, table: dict[str, list]) -> None:
    """Stores statistics and anomalies as StatisticsGen and ExampleValidator do, and runs the executor on them."""
    import pandas as pd

    statistics = standard_artifacts.ExampleStatistics()
    anomalies = standard_artifacts.ExampleAnomalies()
    statistics.uri, anomalies.uri = str(tmp_path / "statistics"), str(tmp_path / "anomalies")
    for instance in (statistics, anomalies):
        instance.split_names = artifact_utils.encode_split_names(["train"])
    computed = tfdv.generate_statistics_from_dataframe(pd.DataFrame(table), n_jobs=1)
    io_utils.write_bytes_file(
        str(tmp_path / "statistics" / "Split-train" / "FeatureStats.pb"), computed.SerializeToString()
    )
    invalid = tfdv.validate_statistics(computed, schema)
    io_utils.write_bytes_file(
        str(tmp_path / "anomalies" / "Split-train" / "SchemaDiff.pb"), invalid.SerializeToString()
    )
    executor.Executor().Do({"statistics": [statistics], "anomalies": [anomalies]}, {}, {})


def test_good_data_passes(tmp_path, schema):
    run_gate(tmp_path, schema, rows())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"label": 12_345}, "feature label: .*12345"),
        ({"label": -2}, "feature label: .*-2"),
        ({"pixel_mean": 1.5}, "feature pixel_mean: .*1.5"),
        ({"pixel_std": np.nan}, "feature pixel_std: "),
        ({"height": 2}, "feature height: "),
        ({"label": None}, "feature label: .*(missing|dropped)"),
    ],
)
def test_each_anomaly_stops_the_run_with_a_sentence(tmp_path, schema, changes, sentence):
    with pytest.raises(DataError, match=f"(?is)failed validation.*Split train, {sentence}"):
        run_gate(tmp_path, schema, rows(**changes))
