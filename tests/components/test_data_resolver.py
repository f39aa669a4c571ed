"""Which images a run works on, and whether they are new."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from components.data_resolver import spans
from components.data_resolver.resolution import Resolution, nothing_new, recipe, resolve
from components.model_registry import ModelRegistry
from components.model_registry.pipeline_runs import PipelineRun, PipelineRuns
from trainer.errors import DataError, SettingsError


def arrive(place: Path, complete: bool = True) -> Path:
    (place / "unlabelled").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(place / "unlabelled" / "1.png")
    if complete:
        (place / "_SUCCESS").touch()
    return place


def test_the_newest_complete_day_counts(tmp_path):
    pattern = f"{tmp_path}/images/{{YYYY}}-{{MM}}-{{DD}}"
    days = [arrive(tmp_path / "images" / day) for day in ("2026-11-23", "2025-12-31", "2026-02-01")]
    (tmp_path / "images" / "notes-2027-01-01").mkdir()
    found = spans.newest(pattern)
    assert (found.span.path, found.span.name, found.passed_over) == (str(days[0]), "2026-11-23", ())

    arriving = arrive(tmp_path / "images" / "2026-11-24", complete=False)
    found = spans.newest(pattern)
    assert found.span.name == "2026-11-23"
    (sentence,) = found.passed_over
    assert str(arriving) in sentence
    assert "no _SUCCESS and changed 0 minutes ago, less than the 10" in sentence
    # It settles, or is declared whole.
    assert spans.newest(pattern, settled_minutes=0).span.name == "2026-11-24"
    assert spans.newest(pattern, settled_minutes=None).span.name == "2026-11-23"
    (arriving / "_SUCCESS").touch()
    assert spans.newest(pattern, settled_minutes=None).span.name == "2026-11-24"

    assert spans.newest(pattern, "2026-02-01").span.path == str(days[2])
    with pytest.raises(SettingsError, match=r"no span 2026-02-02 \(data\.span\); there are: 2026-11-24, 2026-11-23"):
        spans.newest(pattern, "2026-02-02")


def test_times_that_were_copied_along_do_not_make_a_folder_settled(tmp_path):
    place = arrive(tmp_path / "7", complete=False)
    long_ago = time.time() - 1_000_000
    for file in place.rglob("*"):
        os.utime(file, (long_ago, long_ago))
    with pytest.raises(DataError, match=r"no span is complete: .*7 does not count yet"):
        spans.newest(f"{tmp_path}/{{SPAN}}")


def test_numbers_are_numbers_and_folders_may_be_nested(tmp_path):
    for span in ("9", "10", "x"):
        arrive(tmp_path / f"span-{span}" / "images")
    assert spans.newest(f"{tmp_path}/span-{{SPAN}}/images").span.path == f"{tmp_path}/span-10/images"
    for day in ("2026/11/30", "2026/12/01"):
        arrive(tmp_path / day)
    found = spans.newest(f"{tmp_path}/{{YYYY}}/{{MM}}/{{DD}}").span
    assert (found.path, found.name) == (f"{tmp_path}/2026/12/01", "2026-12-01")
    # Named twice, it must be the same.
    for name in ("2026/2026-10", "2026/2025-12"):
        arrive(tmp_path / "twice" / name)
    assert spans.newest(f"{tmp_path}/twice/{{YYYY}}/{{YYYY}}-{{MM}}").span.name == "2026-10"


def test_what_cannot_be_resolved_is_one_sentence(tmp_path):
    with pytest.raises(SettingsError, match=r"unknown placeholder \{DAY\}; known are \{YYYY\}"):
        spans.newest(f"{tmp_path}/{{DAY}}")
    with pytest.raises(DataError, match=r"no span is complete: nothing has such a name"):
        spans.newest(f"{tmp_path}/{{SPAN}}")
    (tmp_path / "1").mkdir()
    with pytest.raises(DataError, match=r"1 does not count yet: it is empty"):
        spans.newest(f"{tmp_path}/{{SPAN}}")


def test_a_span_of_a_single_place_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"data\.span is 7, but data\.source .* names one place"):
        resolve(str(tmp_path), span="7")


def test_the_name_of_a_folder_in_cloud_storage_is_no_content(monkeypatch):
    """The console makes an object of it, which fake-gcs-server cannot hold."""
    updated = datetime(2026, 11, 24, tzinfo=UTC)
    stored = [SimpleNamespace(name=name, updated=updated) for name in ("a/7/", "a/8/", "a/8/unlabelled/", "a/9/x.png")]

    class Client:
        def list_blobs(self, bucket, prefix, delimiter=None):
            return [blob for blob in stored if blob.name.startswith(prefix)]

    monkeypatch.setattr(spans, "_cloud", Client)
    assert spans._state("gs://bucket/a/7") == (False, None)
    assert spans._state("gs://bucket/a/8") == (False, None)
    assert spans._state("gs://bucket/a/9") == (False, updated.timestamp())


def test_a_mark_is_no_content(tmp_path):
    place = arrive(tmp_path / "1", complete=False)
    before = resolve(f"{tmp_path}/{{SPAN}}", settled_minutes=0)
    (place / "_SUCCESS").touch()
    after = resolve(f"{tmp_path}/{{SPAN}}")
    assert before.source == after.source == str(place)
    assert before.fingerprint == after.fingerprint


def test_new_is_what_no_run_came_to_an_end_with(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    runs = PipelineRuns(ModelRegistry(str(tmp_path)), "encoder")
    assert runs.newest() == []
    data, same = Resolution("/images/1", "f00d"), recipe({"epochs": 3})
    assert recipe({"epochs": 4}) != same
    assert nothing_new(runs, "monday", data, same, None) is None

    # A failure is not the end of it.
    runs.record(PipelineRun("monday", "failed", "x" * 10_000, data.source, data.identity, same))
    assert nothing_new(runs, "tuesday", data, same, None) is None
    runs.record(PipelineRun("monday again", "not promoted", "run again", data.source, data.identity, same, 1))
    assert nothing_new(runs, "tuesday", data, same, None) is None
    runs.record(PipelineRun("tuesday", "not blessed", "worse", data.source, data.identity, same, None, 0.25, 3))
    # Beside another champion it might be blessed.
    assert nothing_new(runs, "x", data, same, 2) is None
    assert nothing_new(runs, "x", data, same, None) is None
    sentence = nothing_new(runs, "wednesday", data, same, 3)
    assert sentence.startswith("Nothing new: run tuesday of 20")
    assert "(not blessed). Nothing is trained." in sentence
    assert nothing_new(runs, "x", data, recipe({"epochs": 4}), 3) is None
    assert nothing_new(runs, "x", Resolution("/images/1", "f00d", "beef"), same, 3) is None

    newest = runs.newest()
    assert [(run.run, run.outcome) for run in newest] == [
        ("wednesday", "nothing new"),
        ("tuesday", "not blessed"),
        ("monday again", "not promoted"),
        ("monday", "failed"),
    ]
    assert (newest[1].probe_accuracy, newest[1].source, newest[1].version) == (0.25, "/images/1", None)
    # It still points to the run that trained, not to the one that found nothing new.
    assert "run tuesday" in nothing_new(runs, "thursday", data, same, 3)
