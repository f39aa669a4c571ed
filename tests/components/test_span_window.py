"""Data that grows: several spans are used together."""

from pathlib import Path

import pytest

from components.data_resolver import spans
from components.data_resolver.config import DataSettings
from components.data_resolver.resolution import resolve
from components.image_example_gen import fingerprint, transforms
from components.image_example_gen.config import IngestSettings
from components.image_example_gen.ingest import ingest
from components.image_example_gen.sources import span_window
from components.image_example_gen.sources.opening import open_source
from tests.components.test_folder_layout import draw, labelled, left_out
from tests.components.test_ingest import records, runner
from trainer.errors import DataError, SettingsError


def add_week(root: Path, week: int, pictures: int = 5) -> Path:
    """Adds a weekly increment, with pictures that no other week has."""
    folder = root / f"2026-11-{week:02d}"
    for number in range(pictures):
        draw(folder / "unlabelled" / f"{number}.png", 100 * week + number)
    (folder / "_SUCCESS").touch()
    return folder


def settings(root: Path, **changes) -> DataSettings:
    return DataSettings(source=f"{root}/{{YYYY}}-{{MM}}-{{DD}}", image_size=32, **changes)


def test_eight_weekly_increments_grow_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr(transforms, "_MOST_IMAGES_PER_BLOCK", 4)
    seen, counts = set(), []
    for week in range(1, 9):
        folder = add_week(tmp_path / "in", week)
        if week in (2, 5):
            labelled(folder)
        resolved = resolve(settings(tmp_path / "in", spans=6))
        seen.add(resolved.fingerprint)
        assert resolve(settings(tmp_path / "in", spans=6)).fingerprint == resolved.fingerprint
        counts.append(open_source(resolved.source).counts["unlabelled"])
    assert len(seen) == 8
    assert counts == [5, 10, 15, 20, 25, 30, 30, 30]
    source = open_source(resolved.source)
    fingerprint.require(source, resolved.fingerprint)
    dataset = ingest(source, resolved.fingerprint, IngestSettings(image_size=32), str(tmp_path / "out"), runner)
    assert dataset.counts == {"unlabelled": 30, "train": 2, "test": 2}
    found = list(records(tmp_path / "out", "unlabelled"))
    assert found == [f"2026-11-0{week}/unlabelled/{number}.png" for week in range(3, 9) for number in range(5)]
    # The labelled pictures of the newest week that has some; those of week 2 are outside of the window.
    assert list(records(tmp_path / "out", "test")) == [f"2026-11-05/test/{name}/x.png" for name in ("cat", "dog")]
    # Two shards of each week, none of which holds pictures of two weeks.
    names = sorted(path.name for path in (tmp_path / "out" / "Split-unlabelled").iterdir())
    assert names == [f"data_tfrecord-{number:05d}-of-00012" for number in range(12)]
    assert resolve(settings(tmp_path / "in", spans="all")).source.count("2026-11-") == 8


def test_a_picture_in_two_spans_counts_once_and_older_labels_are_counted(tmp_path):
    weeks = [add_week(tmp_path, week) for week in (1, 2)]
    draw(weeks[1] / "unlabelled" / "copy.png", 103)
    for week in weeks:
        labelled(week)
    (tmp_path / "list.txt").write_text("2026-11-01/unlabelled/1.png\ngone.png\n")
    settings = IngestSettings(exclude=str(tmp_path / "list.txt"))
    source = open_source(span_window.joined([str(week) for week in weeks]), settings)
    assert source.counts == {"unlabelled": 9, "train": 2, "test": 2}
    found = {picture.id for work in source.work(100) for picture in source.read(work)}
    assert "2026-11-01/unlabelled/3.png" in found
    assert "2026-11-02/unlabelled/copy.png" not in found
    assert left_out(source) == {
        "in an earlier span, too": {"2026-11-02/unlabelled/copy.png"},
        "excluded": {"2026-11-01/unlabelled/1.png"},
        "in data.exclude, but not found": {"gone.png"},
        "labelled, in an earlier span": {"2026-11-01/train: 2 images", "2026-11-01/test: 2 images"},
        "not a picture: no ending": {"2026-11-01/_SUCCESS", "2026-11-02/_SUCCESS"},
    }


def test_archives_are_spans_too(stl10_directory, tmp_path):
    from tests.components.test_sources import pack

    archives = [str(pack(stl10_directory, tmp_path / f"{week}.tar.gz")) for week in (1, 2)]
    with pytest.raises(SettingsError, match=r"data.exclude .* but .*1.tar.gz is an STL-10 archive"):
        open_source(span_window.joined(archives), IngestSettings(exclude=str(tmp_path / "list.txt")))
    source = open_source(span_window.joined(archives))
    dataset = ingest(source, "f", IngestSettings(image_size=48), str(tmp_path / "out"), runner)
    assert dataset.counts == {"unlabelled": 60, "train": 20, "test": 10}
    assert len(records(tmp_path / "out", "unlabelled")) == 60
    assert set(records(tmp_path / "out", "test")) == {f"2.tar.gz/test/{i:06d}" for i in range(10)}


def test_dates_that_do_not_exist_are_passed_over_and_equal_numbers_are_refused(tmp_path):
    (tmp_path / "dates" / "2026-99-99").mkdir(parents=True)
    add_week(tmp_path / "dates", 3)
    found = spans.newest(f"{tmp_path}/dates/{{YYYY}}-{{MM}}-{{DD}}")
    assert found.span.name == "2026-11-03"
    assert found.passed_over == (f"{tmp_path}/dates/2026-99-99 is left out: the date 2026-99-99 does not exist.",)
    for name in ("7", "07"):
        (tmp_path / "numbers" / name).mkdir(parents=True)
    with pytest.raises(DataError, match=r"numbers/0?7 and .*numbers/0?7 are the same span, by their numbers"):
        spans.newest(f"{tmp_path}/numbers/{{SPAN}}")


def test_a_message_names_few_of_many_spans(tmp_path):
    for number in range(300):
        (tmp_path / str(number)).mkdir()
    with pytest.raises(DataError, match=r"has no complete span.* So are 295 more\.$") as error:
        spans.newest(f"{tmp_path}/{{SPAN}}")
    assert len(str(error.value)) < 1500
