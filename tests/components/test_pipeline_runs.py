"""The records of pipeline runs: earlier releases of nnclr wrote some of them, and schedules still decide by them."""

import shutil

import pytest

from components.model_registry import ModelRegistry
from components.model_registry.pipeline_runs import PipelineRun, PipelineRuns, data_identity

DATA = data_identity("f00d", None)


@pytest.fixture
def registry(empty_registry, tmp_path, monkeypatch) -> ModelRegistry:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(empty_registry, tmp_path / "registry")
    return ModelRegistry(str(tmp_path / "registry"))


def record_as_0_1_0(registry: ModelRegistry, run: str, outcome: str, settled: str) -> None:
    """Writes the MLflow tags that nnclr 0.1.0 wrote, by their literal keys."""
    tags = {"outcome": outcome, "detail": "why", "source": "/images", "data": DATA, "recipe": "r3c1", "version": "1"}
    experiment = registry.connection.experiment_id("encoder pipeline runs")
    client = registry.connection.client
    client.create_run(experiment, tags=tags | ({"settled": settled} if settled else {}), run_name=run)


def test_a_run_that_an_earlier_release_recorded_is_not_repeated(registry):
    runs = PipelineRuns(registry, "encoder")
    record_as_0_1_0(registry, "monday", "released", "yes")
    settled = runs.settled(DATA, "r3c1", champion=1)
    assert (settled.run, settled.outcome, settled.version) == ("monday", "released", 1)
    assert (settled.settings_fingerprint, settled.data, settled.detail) == ("r3c1", DATA, "why")
    assert runs.settled(DATA, "0ther", champion=1) is None
    assert runs.settled(data_identity("beef", None), "r3c1", champion=1) is None


def test_a_run_of_an_earlier_release_that_stood_back_is_read_as_not_promoted_and_is_repeated(registry):
    runs = PipelineRuns(registry, "encoder")
    record_as_0_1_0(registry, "monday", "stood back", "")
    assert [(run.run, run.outcome) for run in runs.newest()] == [("monday", "not promoted")]
    assert runs.settled(DATA, "r3c1", champion=1) is None


def test_a_new_record_has_the_keys_that_earlier_releases_search_for(registry):
    PipelineRuns(registry, "encoder").record(
        PipelineRun("tuesday", "unchanged", source="/images", data=DATA, settings_fingerprint="r3c1", version=1)
    )
    experiment = registry.connection.client.get_experiment_by_name("encoder pipeline runs")
    (stored,) = registry.connection.client.search_runs([experiment.experiment_id])
    expected = {"outcome": "unchanged", "source": "/images", "data": DATA, "recipe": "r3c1", "settled": "yes"}
    assert expected.items() <= stored.data.tags.items()
