"""Which images a run uses, and whether an earlier run has already used them."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from components.data_resolver import spans
from components.data_resolver.config import DataSettings
from components.data_resolver.resolution import Resolution, nothing_new, resolve, settings_fingerprint
from components.image_example_gen.sources import files
from components.model_registry import ModelRegistry
from components.model_registry.pipeline_runs import PipelineRun, PipelineRuns
from components.run_settings import RunSettings
from tests.components.test_files import put
from trainer.errors import DataError, SettingsError


def add_span(folder: Path, complete: bool = True) -> Path:
    (folder / "unlabelled").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(folder / "unlabelled" / "1.png")
    if complete:
        (folder / "_SUCCESS").touch()
    return folder


def test_the_newest_complete_span_is_resolved(tmp_path):
    pattern = f"{tmp_path}/images/{{YYYY}}-{{MM}}-{{DD}}"
    days = [add_span(tmp_path / "images" / day) for day in ("2026-11-23", "2025-12-31", "2026-02-01")]
    (tmp_path / "images" / "notes-2027-01-01").mkdir()
    newest = spans.newest(pattern)
    assert (newest.span.path, newest.span.name, newest.passed_over) == (str(days[0]), "2026-11-23", ())

    arriving = add_span(tmp_path / "images" / "2026-11-24", complete=False)
    newest = spans.newest(pattern)
    assert newest.span.name == "2026-11-23"
    (sentence,) = newest.passed_over
    assert str(arriving) in sentence
    assert "no _SUCCESS and changed 0 minutes ago, which is less than the 10 minutes" in sentence
    # Either nothing changed for long enough, or the mark is there.
    assert spans.newest(pattern, settled_minutes=0).span.name == "2026-11-24"
    assert spans.newest(pattern, settled_minutes=None).span.name == "2026-11-23"
    (arriving / "_SUCCESS").touch()
    assert spans.newest(pattern, settled_minutes=None).span.name == "2026-11-24"

    assert spans.newest(pattern, "2026-02-01").span.path == str(days[2])
    with pytest.raises(SettingsError, match=r"no span 2026-02-02 \(data\.span\); there are: 2026-11-24, 2026-11-23"):
        spans.newest(pattern, "2026-02-02")


def test_copied_modification_times_do_not_make_a_span_complete(tmp_path):
    folder = add_span(tmp_path / "7", complete=False)
    long_ago = time.time() - 1_000_000
    for file in folder.rglob("*"):
        os.utime(file, (long_ago, long_ago))
    with pytest.raises(DataError, match=r"has no complete span\. .*7 is not complete yet"):
        spans.newest(f"{tmp_path}/{{SPAN}}")


def test_spans_are_ordered_as_numbers_and_may_be_nested(tmp_path):
    for number in ("9", "10", "x"):
        add_span(tmp_path / f"span-{number}" / "images")
    assert spans.newest(f"{tmp_path}/span-{{SPAN}}/images").span.path == f"{tmp_path}/span-10/images"
    for day in ("2026/11/30", "2026/12/01"):
        add_span(tmp_path / day)
    span = spans.newest(f"{tmp_path}/{{YYYY}}/{{MM}}/{{DD}}").span
    assert (span.path, span.name) == (f"{tmp_path}/2026/12/01", "2026-12-01")
    # A placeholder that stands twice must have the same value.
    for name in ("2026/2026-10", "2026/2025-12"):
        add_span(tmp_path / "twice" / name)
    assert spans.newest(f"{tmp_path}/twice/{{YYYY}}/{{YYYY}}-{{MM}}").span.name == "2026-10"


def test_a_pattern_that_cannot_be_resolved_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(SettingsError, match=r"unknown placeholder \{SPAN:2\}\. The placeholders are \{YYYY\}"):
        spans.newest(f"{tmp_path}/{{SPAN:2}}")
    with pytest.raises(SettingsError, match=r"unknown placeholder \{DAY\}\. The placeholders are \{YYYY\}"):
        spans.newest(f"{tmp_path}/{{DAY}}")
    with pytest.raises(DataError, match=r"has no spans: no path matches it"):
        spans.newest(f"{tmp_path}/{{SPAN}}")
    (tmp_path / "1").mkdir()
    with pytest.raises(DataError, match=r"1 is not complete yet: it is empty"):
        spans.newest(f"{tmp_path}/{{SPAN}}")


def test_a_span_for_a_source_without_placeholders_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"data\.span is 7, but data\.source .* has no placeholder"):
        resolve(DataSettings(source=str(tmp_path), span="7"))


def test_a_marked_span_is_not_walked(watched_bucket, monkeypatch):
    folder, proxy = watched_bucket
    put(folder, {f"{span}/unlabelled/{number}.png": b"x" for span in "789" for number in range(10)})
    put(folder, {"9/_SUCCESS": b"", "8/_SUCCESS": b""})
    proxy.requests.clear()
    assert spans.newest(f"{folder}/{{SPAN}}").span.path == f"{folder}/9"
    # One request lists the spans, and one asks for the mark of the newest.
    assert len(proxy.requests) == 2
    monkeypatch.setattr(files, "listing", None)
    assert spans.newest(f"{folder}/{{SPAN}}").span.name == "9"


def test_a_span_of_a_bucket_is_settled_when_its_objects_are(bucket):
    put(bucket, {"2026-11-23/unlabelled/1.png": b"x", "2026-11-23/_SUCCESS": b"", "2026-11-24/unlabelled/1.png": b"x"})
    # Of another folder whose name begins the same.
    put(bucket, {"2026-11-24b/_SUCCESS": b""})
    pattern = f"{bucket}/{{YYYY}}-{{MM}}-{{DD}}"
    found = spans.newest(pattern)
    assert found.span.path == f"{bucket}/2026-11-23"
    (sentence,) = found.passed_over
    assert f"{bucket}/2026-11-24 is not complete yet: it has no _SUCCESS and changed 0 minutes ago" in sentence
    assert spans.newest(pattern, settled_minutes=0).span.name == "2026-11-24"


def test_a_pattern_in_a_bucket_that_does_not_exist_is_one_sentence(bucket):
    with pytest.raises(DataError, match=r"://nobody-has-this.* there is no bucket nobody-has-this"):
        spans.newest(f"{bucket[:5]}nobody-has-this/{{SPAN}}")
    with pytest.raises(DataError, match="has no spans: no path matches it"):
        spans.newest(f"{bucket}/{{SPAN}}")


def test_the_mark_is_not_content(tmp_path):
    folder = add_span(tmp_path / "1", complete=False)
    before = resolve(DataSettings(source=f"{tmp_path}/{{SPAN}}", settled_minutes=0))
    (folder / "_SUCCESS").touch()
    after = resolve(DataSettings(source=f"{tmp_path}/{{SPAN}}"))
    assert before.source == after.source == str(folder)
    assert before.fingerprint == after.fingerprint


def settings(**trainer) -> RunSettings:
    return RunSettings(trainer={"epochs": 3} | trainer, registry={"model_name": "encoder"})


def test_new_is_what_no_run_came_to_an_end_with(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry = ModelRegistry(str(tmp_path))
    champion: list[int] = []
    monkeypatch.setattr(
        ModelRegistry,
        "aliased",
        lambda self, name, alias: SimpleNamespace(version=champion[0]) if champion else None,
    )
    runs = PipelineRuns(registry, "encoder")
    assert runs.newest() == []
    data, same = Resolution("/images/1", "f00d"), settings_fingerprint(settings())
    assert settings_fingerprint(settings(epochs=4)) != same

    def reason(run: str, present: int | None, images: Resolution = data, **trainer) -> str | None:
        champion[:] = [present] if present else []
        return nothing_new(registry, settings(**trainer), run, images)

    assert reason("monday", None) is None
    # A failure is not the end of it.
    runs.record(PipelineRun("monday", "failed", "x" * 10_000, data.source, data.identity, same))
    assert reason("tuesday", None) is None
    runs.record(PipelineRun("monday again", "not promoted", "run again", data.source, data.identity, same, 1))
    assert reason("tuesday", None) is None
    runs.record(PipelineRun("tuesday", "not blessed", "worse", data.source, data.identity, same, None, 0.25, 3))
    # Beside another champion it might be blessed.
    assert reason("x", 2) is None
    assert reason("x", None) is None
    sentence = reason("wednesday", 3)
    assert sentence.startswith("Nothing new: run tuesday of 20")
    assert "(not blessed). Nothing is trained." in sentence
    assert reason("x", 3, epochs=4) is None
    assert reason("x", 3, Resolution("/images/1", "f00d", "beef")) is None

    newest = runs.newest()
    assert [(run.run, run.outcome) for run in newest] == [
        ("wednesday", "nothing new"),
        ("tuesday", "not blessed"),
        ("monday again", "not promoted"),
        ("monday", "failed"),
    ]
    assert (newest[1].probe_accuracy, newest[1].source, newest[1].version) == (0.25, "/images/1", None)
    # It still points to the run that trained, not to the one that found nothing new.
    assert "run tuesday" in reason("thursday", 3)
    # An encoder that waits for approval is not trained again, whether a person promotes it or not.
    runs.record(PipelineRun("friday", "challenger", "waits", data.source, data.identity, same, 4, 0.5, 3))
    for present in (3, 4):
        assert "(challenger, version 4). Nothing is trained." in reason("x", present)
