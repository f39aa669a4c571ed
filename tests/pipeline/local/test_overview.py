"""The page of all runs of a working directory."""

import json
import re
from html.parser import HTMLParser

import pytest

from pipeline.local import ending, overview, summary
from pipeline.local.summary import Summary
from pipeline.local.workdir import Workdir
from tests.components import releases
from tests.pipeline.local.test_summary import FORMER

RELEASED, REFUSED, FAILED = "20261101-030000-ab12", "20261108-030000-ab12", "20261115-030000-ab12"
STOPPED, DAMAGED, FOREIGN = "20261122-030000-ab12", "20261129-030000-ab12", "<i>notes #1"


class _Page(HTMLParser):
    """The tags of a page with their attributes, and its links."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @property
    def links(self) -> list[str | None]:
        return [attributes["href"] for tag, attributes in self.tags if tag == "a"]


@pytest.fixture
def workdir(tmp_path) -> Workdir:
    """Runs of every kind, the last of which has just failed."""
    found = Workdir(tmp_path / "w")
    refused = FORMER | {
        **{"run_id": REFUSED, "outcome": "not blessed", "registry": {"outcome": "not blessed"}},
        "evaluation": FORMER["evaluation"] | {"blessed": False, "reasons": ["It is below the floor."]},
    }
    for run, content in ((RELEASED, FORMER), (REFUSED, refused), (STOPPED, None), (FOREIGN, None)):
        folder = found.run(run)
        folder.mkdir(parents=True)
        (folder / "run.log").write_text("")
        if content:
            (folder / "summary.json").write_text(json.dumps(content))
            (folder / "report.html").write_text("")
    found.run(DAMAGED).mkdir()
    (found.run(DAMAGED) / "summary.json").write_text("{")
    (found.run(FAILED)).mkdir()
    failed = Summary(
        run_id=FAILED, outcome="failed", source="<b>images</b>", failure="<script>alert(1)</script> is bad."
    )
    assert ending.keep(found, failed) == []
    return found


def test_it_shows_every_run_and_links_to_its_files(workdir):
    text = workdir.overview.read_text()
    page = _Page(text)
    assert "<h1>6 runs</h1>" in text
    shown = " ".join(re.sub(r"<[^>]+>", " ", text.partition("<tbody>")[2]).split())
    for part in (
        "2026-11-01 03:00 20261101-030000-ab12 /images 9 unlabelled, 4 train, 4 test 60.0 % 50.0 % to 70.0 %",
        "released models:/encoder/3 report log",
        "not blessed It is below the floor. report log",
        "failed &lt;script&gt;alert(1)&lt;/script&gt; is bad.",
        "2026-11-22 03:00 20261122-030000-ab12 not finished It was stopped or killed. log",
        "not finished Its summary.json cannot be read.",
    ):
        assert part in shown
    # The newest run is on top.
    assert shown.index(DAMAGED) < shown.index(STOPPED) < shown.index(FAILED) < shown.index(RELEASED)
    for run in (RELEASED, REFUSED):
        assert {f"{run}/report.html", f"{run}/run.log"} <= set(page.links)
    assert "%3Ci%3Enotes%20%231/run.log" in page.links
    assert [path.name for path in workdir.overview.parent.iterdir() if path.is_file()] == ["index.html"]


def test_it_needs_no_server_and_nothing_that_is_shown_becomes_markup(workdir):
    text = workdir.overview.read_text()
    page = _Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "b", "i", "img", "link", "iframe"}
    assert all(":" not in (link or "") and not (link or "").startswith("/") for link in page.links)
    policy = next(attributes for tag, attributes in page.tags if "http-equiv" in attributes)
    assert policy["content"].startswith("default-src 'none'")
    assert not re.search(r"url\((?!#)|@import", text)


def test_the_figures_are_drawn_over_time_with_one_plot_for_each_measure(workdir):
    text = workdir.overview.read_text()
    assert 'aria-label="linear probe of 2 runs over time; the newest is 60.0%"' in text
    assert [label in text for label in (">released<", ">not blessed<")] == [True, True]
    unlabelled = Summary.model_validate(FORMER).model_copy(
        update={"run_id": STOPPED, "evaluation": releases.label_free_metrics(0.5, champion_version=2)}
    )
    summary.write(workdir.run(STOPPED), unlabelled)
    overview.write(workdir)
    text = workdir.overview.read_text()
    assert 'aria-label="neighbour consistency of 1 run over time; the newest is 50.0%"' in text
    assert 'aria-label="linear probe of 2 runs over time' in text


def test_a_page_that_cannot_be_written_does_not_change_the_end_of_a_run(tmp_path):
    (tmp_path / "runs").write_text("a file in the place of the folder")
    (problem,) = ending.keep(Workdir(tmp_path), None)
    assert problem.endswith(f"/runs/index.html cannot be written: {tmp_path}/runs cannot be used: Not a directory.")
