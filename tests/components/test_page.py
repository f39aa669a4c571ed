"""The report: one file, which says first what was decided, and shows what is true."""

import base64
import io
from dataclasses import dataclass, replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix
from sklearn.metrics.pairwise import cosine_similarity

from components.data_gate.artifact import DataCheck
from components.linear_probe_evaluator import artifact, page, probes, projection
from components.linear_probe_evaluator.artifact import Check, Compared, CurvePoint, Duplicates
from components.linear_probe_evaluator.copies import Copy, Place
from components.linear_probe_evaluator.evaluation import Evaluation, Measured
from components.linear_probe_evaluator.page import plots
from components.linear_probe_evaluator.probes import Labelled
from tests.components import releases

# Per row number.
BRIGHTNESS = 4
CLASSES = ["<b>cat</b>", "chat d'été & $x$", "dog"]
# Split, row number and label.
PLACES = (("test", 3, 0), ("train", 20, 2), ("unlabelled", 40, -1))
CHECKS = [
    Check(passed=True, sentence="The probe accuracy 61.0% reaches the floor 45.0%."),
    Check(passed=False, sentence="It may be <more> than 1.0 points behind the champion."),
]


@dataclass
class Element:
    """A start tag with the text that follows it."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""


class Page(HTMLParser):
    """What a browser finds, in order."""

    def __init__(self, content: str):
        super().__init__()
        self.elements: list[Element] = []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.elements.append(Element(tag, dict(attrs)))

    def handle_data(self, data):
        if self.elements:
            element = self.elements[-1]
            element.text = " ".join(f"{element.text} {data}".split())

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    @property
    def links(self) -> list[str]:
        names = ("src", "href", "xlink:href", "srcset", "data")
        return [element.attributes[name] for element in self.elements for name in names if element.attributes.get(name)]

    @property
    def text(self) -> str:
        return " ".join(element.text for element in self.elements if element.tag not in ("style", "title"))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return releases.export_model(tmp_path_factory.mktemp("model") / "model", 1)


@pytest.fixture
def run(tmp_path) -> str:
    rows = [
        "step,c_loss,c_acc,val_p_acc,rank_me,learning_rate",
        "10,5.0,0.1,0.2,3.0,0.001",
        "20,4.0,0.3,0.25,6.0,0.0005",
    ]
    (tmp_path / "history.csv").write_text("\n".join(rows))
    return str(tmp_path)


def measured(classes: int, train: int = 60, test: int = 30) -> tuple[Measured, dict[str, np.ndarray]]:
    """Features in clusters by class, and images whose brightness is their row number."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, 8)) * 2
    labelled = {}
    for split, count in (("train", train), ("test", test)):
        labels = np.arange(count) % classes
        labelled[split] = Labelled((centres[labels] + rng.normal(size=(count, 8))).astype(np.float32), labels)
    probe = probes.fit(labelled["train"], classes, 0, 0.1)
    images = {
        split: np.repeat(np.arange(len(part.labels), dtype=np.uint8), 16 * 16 * 3).reshape(-1, 16, 16, 3) * BRIGHTNESS
        for split, part in labelled.items()
    }
    return Measured(labelled["train"], labelled["test"], 0, probe, probes.score(probe, labelled["test"])), images


def evaluation(names: list[str], **changes) -> Evaluation:
    candidate, images = measured(len(names))
    counts = np.bincount(candidate.test.labels)
    measured_figures = {
        "blessed": False,
        "checks": CHECKS,
        "probe_interval": candidate.score.interval,
        "class_accuracy": dict(zip(names, candidate.score.recall, strict=True)),
        "class_counts": dict(zip(names, counts.tolist(), strict=True)),
        "duplicates": {"test in train": Duplicates(images=30, exact=2, look=3)},
        "counts": {"unlabelled": 1000, "train": 60, "test": 30},
    }
    metrics = releases.metrics(candidate.score.accuracy).model_copy(update=measured_figures | changes)
    return Evaluation(metrics, candidate, lambda split, rows: images[split][rows])


def test_it_is_one_file_that_loads_nothing_and_runs_nothing(model, run):
    content = page.render(evaluation(CLASSES), model, run)
    found = Page(content)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {element.tag for element in found.elements}
    assert all(link.startswith(("#", "data:image/webp;base64,")) for link in found.links)
    assert "@import" not in content
    assert "url(http" not in content
    (policy,) = [e for e in found.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policy.attributes["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not [name for element in found.elements for name in element.attributes if name.startswith("on")]
    # Names are text, whatever they contain.
    assert "<b>cat</b>" not in content
    assert "<b>cat</b>" in found.text
    # It fits a phone, a dark room and paper; a reader that sees no pictures hears what they are.
    assert any(element.attributes.get("name") == "viewport" for element in found.all("meta"))
    assert "prefers-color-scheme: dark" in content
    assert "@media print" in content
    assert len(found.all("svg")) == 6
    assert all(drawing.attributes["role"] == "img" and drawing.attributes["aria-label"] for drawing in found.all("svg"))
    assert all(image.attributes["alt"] for image in found.all("img"))


def test_verdict_and_reasons_come_first_with_the_findings(model, run):
    found = Page(page.render(evaluation(CLASSES), model, run))
    body = found.elements[[element.tag for element in found.elements].index("body") :]
    assert next(element for element in body if element.text).text == "✗ Not blessed"
    before_details = found.text[: found.text.index("Accuracy")]
    for sentence in (*(check.sentence for check in CHECKS), "3 of the 40 images of test occur in train as well."):
        assert sentence in before_details
    assert [e.attributes["data-mark"] for e in found.elements if "data-mark" in e.attributes] == ["✓", "✗", "!"]
    blessed = Page(page.render(evaluation(CLASSES, blessed=True), model, run))
    assert blessed.all("h1")[0].text == "✓ Blessed"


def test_figures_are_those_that_were_measured(model, run):
    subject = evaluation(CLASSES)
    found = Page(page.render(subject, model, run))
    candidate = subject.candidate
    assert f"{100 * candidate.score.accuracy:.1f}\u202f%" in found.all("strong")[0].text.replace(" ", "\u202f")
    cells = [e for e in found.all("td") if "--share" in (e.attributes.get("style") or "")][1:]
    expected = confusion_matrix(candidate.test.labels, candidate.score.predicted)
    assert [int(cell.text or 0) for cell in cells] == expected.ravel().tolist()
    # The weakest class is read first.
    bars = [float(e.attributes["style"].removeprefix("width: ").rstrip("%")) for e in found.all("i")]
    assert bars == pytest.approx([100 * recall for recall in sorted(candidate.score.recall)], abs=0.06)


def test_neighbours_are_the_nearest_ones_and_framed_by_class(model, run):
    subject = evaluation(CLASSES)
    found = Page(page.render(subject, model, run))
    train, test = subject.candidate.train, subject.candidate.test
    shown = [(image.attributes["alt"], row_of(image.attributes["src"])) for image in found.all("img")]
    assert len(shown) == 8 * 7
    similarity = cosine_similarity(test.features, train.features)
    for first in range(0, len(shown), 7):
        (query_text, query), *neighbours = shown[first : first + 7]
        assert query_text == f"test image: {CLASSES[test.labels[query]]}"
        assert [row for _, row in neighbours] == np.argsort(-similarity[query], kind="stable")[:6].tolist()
        for text, row in neighbours:
            right = train.labels[row] == test.labels[query]
            assert text == f"{'right' if right else 'wrong'}: {CLASSES[train.labels[row]]}"


def row_of(uri: str) -> int:
    """The row number that a picture's brightness stands for."""
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    return round(float(np.asarray(picture).mean()) / BRIGHTNESS)


def test_the_most_confident_mistakes_are_shown_with_what_the_probe_predicted(model, run):
    subject = evaluation(CLASSES)
    assert subject.candidate.score.hits.all()
    assert "Most confident mistakes" not in page.render(subject, model, run)
    # Rows 3 and 8, of the classes 0 and 2, are taken for class 1.
    wrong = np.isin(np.arange(30), (3, 8))
    score = replace(
        subject.candidate.score,
        hits=~wrong,
        predicted=np.where(wrong, 1, subject.candidate.score.predicted),
        probability=np.where(np.arange(30) == 8, 0.91, 0.6),
    )
    text = Page(page.render(replace(subject, candidate=replace(subject.candidate, score=score)), model, run)).text
    mistakes = text[text.index("Most confident mistakes") :]
    places = [mistakes.index(part) for part in ("dog", f"predicted: {CLASSES[1]} 91%", f"predicted: {CLASSES[1]} 60%")]
    assert places == sorted(places)
    assert mistakes.count("predicted:") == 2


def test_images_that_may_occur_in_two_splits_are_shown_side_by_side(model, run):
    subject = evaluation(CLASSES)
    place = {split: Place(split, row, f"{split}/<{row}>.png", label) for split, row, label in PLACES}
    found = (
        Copy(place["test"], place["train"], identical=False),
        Copy(place["test"], place["unlabelled"], identical=True),
    )

    def images(split: str, rows: np.ndarray) -> np.ndarray:
        return subject.images("train" if split == "unlabelled" else split, rows)

    page_of = Page(page.render(replace(subject, copies=found, images=images), model, run))
    shown = [image for image in page_of.all("img") if image.attributes["alt"].startswith("image of")]
    assert [image.attributes["alt"].partition(":")[0] for image in shown] == [
        *("image of test", "image of train"),
        *("image of test", "image of unlabelled"),
    ]
    assert [row_of(image.attributes["src"]) for image in shown] == [3, 20, 3, 40]
    text = " ".join(page_of.text[page_of.text.index("Images that occur in two splits") :].split())
    for part in (
        "test in train 30 2 3 0",
        f"visually alike test: {CLASSES[0]} test/<3>.png train: {CLASSES[2]} train/<20>.png",
        f"identical test: {CLASSES[0]} test/<3>.png unlabelled unlabelled/<40>.png",
    ):
        assert part in text
    assert "image of" not in page.render(subject, model, run)


def unreadable(split: str, rows: np.ndarray) -> np.ndarray:
    raise OSError("the bucket does not answer")


@pytest.mark.parametrize(
    ("history", "images", "missing"),
    [
        pytest.param(
            "step,c_loss\n10,fast",
            None,
            ["training curves because of an error (ValueError: could not convert string to float: 'fast')"],
            id="history",
        ),
        pytest.param(
            "step,c_loss,rank_me\n10,-1.7e308,4.0\n20,1.7e308,4.5",
            None,
            ["training curve “Loss” because of an error (ValueError"],
            id="curve",
        ),
        pytest.param(
            "step,c_loss\n10,2.0",
            unreadable,
            [
                f"{part} because of an error (OSError: the bucket does not answer)"
                for part in ("nearest neighbours", "confident mistakes", "images that occur in two splits")
            ],
            id="pictures",
        ),
    ],
)
def test_a_part_that_fails_is_a_sentence_in_its_place_and_the_others_are_shown(
    history, images, missing, model, tmp_path, caplog
):
    (tmp_path / "history.csv").write_text(history)
    subject = evaluation(CLASSES)
    score = replace(subject.candidate.score, hits=~subject.candidate.score.hits)
    copy = Copy(Place("test", 3, "3.png", 0), Place("train", 4, "4.png", 0), identical=True)
    changed = replace(subject, candidate=replace(subject.candidate, score=score), copies=(copy,))
    found = Page(page.render(replace(changed, images=images or subject.images), model, str(tmp_path)))
    shown = [element.text for element in found.all("p") if element.attributes.get("class") == "missing"]
    assert len(shown) == len(missing) == len([record for record in caplog.records if record.exc_info])
    for sentence, part in zip(shown, missing, strict=True):
        assert f"The report shows no {part}" in sentence
    # The accuracies, the map, and the other curve.
    assert len(found.all("svg")) == (3 if "rank_me" in history or images else 2)
    assert found.all("h1")


def test_the_death_of_the_process_that_computes_the_map_is_told(model, run, tmp_path, monkeypatch, caplog):
    (tmp_path / "program.py").write_text("import os; os.kill(os.getpid(), 11)")
    monkeypatch.setattr(projection, "_PROGRAM", str(tmp_path / "program.py"))
    candidate, images = measured(3, test=60)
    subject = replace(evaluation(CLASSES), candidate=candidate, images=lambda split, rows: images[split][rows])
    sentence = (
        "The report shows no map of the embeddings: the process of t-SNE was ended by signal 11 (Segmentation fault)."
    )
    assert sentence in Page(page.render(subject, model, run)).text
    assert sentence in caplog.text


@pytest.mark.parametrize("features", [np.zeros([60, 8], np.float32), np.full([60, 8], np.nan, np.float32)])
def test_embeddings_that_are_all_zero_or_not_finite_end_no_page(features, model, run):
    subject = evaluation(CLASSES)
    candidate = replace(
        subject.candidate,
        train=Labelled(features, subject.candidate.train.labels),
        test=Labelled(features[:30], subject.candidate.test.labels),
    )
    text = Page(page.render(replace(subject, candidate=candidate), model, run)).text
    reason = (
        "some embeddings are not finite" if np.isnan(features).any() else "all embeddings are equal, up to rounding"
    )
    assert f"The report shows no map of the embeddings: {reason}." in text
    assert ("The report shows no nearest neighbours" in text) == np.isnan(features).any()


def test_one_training_image_is_the_neighbour_of_all(model, run):
    subject = evaluation(CLASSES)
    train = subject.candidate.train[np.array([5])]
    found = Page(page.render(replace(subject, candidate=replace(subject.candidate, train=train)), model, run))
    assert len(found.all("img")) == 8 * 2


def test_every_class_is_in_the_legend_of_the_map_whatever_its_name():
    candidate, _ = measured(4)
    names = ["_hidden", "$x$ & <y>", "", "__"]
    drawing = plots.embedding_map(candidate.test, names).drawing
    shown = [element.text for element in Page(drawing).all("text")]
    assert [text.strip() for text in shown] == ["_hidden", "$x$ & <y>", "__"]


def test_an_accuracy_just_outside_of_its_interval_is_drawn(model, run):
    """Rounding can do that, and Matplotlib refuses negative lengths."""
    found = Page(page.render(evaluation(CLASSES, probe_interval=(0.5, 0.9999999)), model, run))
    assert not [element for element in found.all("p") if element.attributes.get("class") == "missing"]


def test_many_classes_give_the_confusions_instead_of_a_matrix(model, run):
    found = Page(page.render(evaluation([f"class {i}" for i in range(25)]), model, run))
    assert "The most frequent confusions." in found.text
    assert "Confusion matrix" not in found.text


def test_without_labels_it_says_so_and_shows_the_training(model, run):
    reason = "There are no labelled images."
    subject = evaluation(CLASSES, probe_accuracy=None, checks=(Check(passed=False, sentence=reason),))
    found = Page(page.render(replace(subject, candidate=None), model, run))
    assert reason in found.text
    assert "Accuracy by class" not in found.text
    assert len(found.all("svg")) == 4


def test_figures_without_labels_stand_beside_those_of_the_other_encoders(model, run):
    metrics = releases.label_free_metrics(0.5, champion_version=2)
    content = page.render(Evaluation(metrics), model, run)
    found = Page(content)
    assert found.all("title")[0].text == "Blessed: neighbour consistency 50.0 %"
    assert found.all("strong")[0].text.startswith("50.0 %")
    shown = found.text[found.text.index("Measured without labels") :]
    assert "Measured on 8 views of each image this encoder champion untrained encoder" in shown
    assert "uniformity (lower is better) \u22122.50 \u22122.50 \u22122.50" in shown
    assert "whether it separates your classes is unknown without labels" in shown
    assert "Evaluated on" not in shown
    drawings = [drawing.attributes["aria-label"] for drawing in found.all("svg")]
    assert drawings[0] == ("Neighbour consistency: this encoder 50.0 %, champion 40.0 %, untrained encoder 10.0 %")


def test_it_lists_the_verdicts_on_the_images(model, run):
    assert "Data checks" not in Page(page.render(evaluation(CLASSES), model, run)).text
    checks = (
        DataCheck(name="noise", passed=True, sentences=("At most 0.0% of the images of a split are noise.",)),
        DataCheck(name="drift", passed=False, sentences=("The height differs <b>.", "The width differs.")),
    )
    found = Page(page.render(evaluation(CLASSES, data_checks=checks), model, run))
    shown = found.text[found.text.index("Data checks") :]
    for part in (
        "a split are noise. gate.noise",
        "The height differs <b>. gate.drift",
        "The width differs. gate.drift",
    ):
        assert part in shown
    assert [e.attributes["data-mark"] for e in found.elements if "data-mark" in e.attributes][-3:] == ["✓", "!", "!"]


def test_it_lists_what_was_left_out(model, run):
    assert "Left out" not in Page(page.render(evaluation(CLASSES), model, run)).text
    subject = evaluation(CLASSES, left_out={"hidden": 1200, "not a picture: .<b>": 3})
    assert "Left out 1,200 hidden; 3 not a picture: .<b>" in Page(page.render(subject, model, run)).text


def test_it_shows_the_encoder_beside_its_references(model, run):
    assert "Was it worth it?" not in Page(page.render(evaluation(CLASSES), model, run)).text
    rows = tuple(
        Compared(
            **{"name": name, "knn_accuracy": knn, "image_size": (32, 32), "parameters": 1_234, "size_bytes": 56_000},
            **{"training_seconds": seconds, "images_per_second": 789.0, "batch": 30},
            points=tuple(
                CurvePoint(labels=labels, accuracy=accuracy, low=accuracy - 0.1, high=accuracy + 0.1, draws=5)
                for labels, accuracy in ((6, 0.5), (60, 0.75))
            ),
        )
        for name, knn, seconds in (("this encoder", 0.5, 120.0), ("$x$ <b>", None, None))
    )
    found = Page(page.render(evaluation(CLASSES, references=rows, worth="Not shown: <b>."), model, run))
    shown = found.text[found.text.index("Was it worth it?") :]
    for part in (
        "Not shown: <b>.",
        "6 labels",
        "60 labels",
        "$x$ <b>",
        "unknown",
        "120 s",
        "1,234",
        "0.1 MB",
        "30 at once",
    ):
        assert part in shown.replace("\xa0", " ")
    (drawing,) = [e for e in found.all("svg") if "by number of labels" in e.attributes["aria-label"]]
    assert "this encoder 75.0 %" in drawing.attributes["aria-label"]


def test_the_registrys_version_comes_in_afterwards(model, run):
    content = page.render(evaluation(CLASSES), model, run)
    assert "Not released." in Page(content).text
    link = "http://127.0.0.1:5000/#/models/encoder/versions/3"
    found = Page(artifact.released_report(content, "encoder", 3, "models:/encoder/3", link))
    assert "Released as encoder version 3 , models:/encoder/3" in found.text
    assert link in found.links
    assert link not in Page(artifact.released_report(content, "encoder", 3, "models:/encoder/3", None)).links
    waits = artifact.released_report(content, "encoder", 3, "models:/encoder/3", None, "It waits for <ada>.")
    assert "Registered as encoder version 3, models:/encoder/3 . It waits for <ada>." in Page(waits).text
    with pytest.raises(ValueError, match="no place for a registry version"):
        artifact.released_report("<p>", "encoder", 3, "models:/encoder/3", None)
