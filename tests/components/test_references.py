"""Encoders beside each other: intervals, the answer, and a whole evaluation."""

from html.parser import HTMLParser

import keras
import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from components.linear_probe_evaluator import embedding, gate, label_curves, page, references, significance, worth
from components.linear_probe_evaluator.artifact import Lead
from components.linear_probe_evaluator.config import EvaluatorSettings
from tests.components.test_evaluator import SETTINGS, evaluated, write_examples
from trainer import export, pretrained
from trainer.config.networks import PretrainedSettings
from trainer.encoders import build_encoder
from trainer.results import TrainingFigures


def hits(accuracy: float, draws: int, seed: int = 0, images: int = 400, spread: float = 0.0) -> np.ndarray:
    levels = accuracy + spread * np.linspace(-1, 1, draws)[:, np.newaxis]
    return np.random.default_rng(seed).random(images) < levels


def test_one_draw_has_the_intervals_of_its_images():
    ours, theirs = hits(0.7, 1, 1), hits(0.6, 1, 2)
    (point,) = label_curves.points({50: ours})
    assert (point.low, point.high) == pytest.approx(significance.accuracy_interval(ours[0]))
    lead, expected = label_curves.lead(ours, theirs, 50, "x"), significance.difference(ours[0], theirs[0])
    assert (lead.mean, lead.low, lead.high) == pytest.approx((expected.mean, expected.low, expected.high))


def test_draws_that_vary_widen_the_intervals():
    even, uneven = (label_curves.points({50: hits(0.6, 5, spread=spread)})[0] for spread in (0.0, 0.1))
    assert uneven.high - uneven.low > 1.5 * (even.high - even.low)
    # Pairs of draws vary less than the draws themselves.
    ours = hits(0.6, 5, 3, spread=0.1)
    theirs = ours & (np.random.default_rng(0).random(ours.shape) < 0.9)
    paired = label_curves.lead(ours, theirs, 50, "x")
    single = label_curves.lead(ours, theirs[:1], 50, "x")
    assert single.high - single.low > 2 * (paired.high - paired.low)
    # The variance of the mean of five draws, and that of the single one.
    of_draws = stats.t.isf(0.025, 4) * np.std(ours.mean(1), ddof=1) * np.sqrt(1 / 5 + 1)
    of_images = np.mean([found.mean - found.low for found in (significance.difference(one, theirs[0]) for one in ours)])
    assert single.mean - single.low == pytest.approx(np.hypot(of_draws, of_images))
    assert single.mean == pytest.approx(ours.mean() - theirs[0].mean())
    together = label_curves.lead(ours, theirs, 50, "x", comparisons=4)
    assert together.low < paired.low < paired.high < together.high


@pytest.mark.long
def test_intervals_that_hold_together_miss_in_at_most_5_percent_of_all_cases():
    """Encoders that are equally good, over draws of labels and of test images, with two numbers of labels."""
    misses = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        leads = []
        for draws in (5, 1):
            levels = 0.6 + 0.03 * rng.normal(size=[2, draws, 1]) * (draws > 1)
            ours, theirs = rng.random([2, draws, 300]) < levels
            leads.append(label_curves.lead(ours, theirs, draws, "x", comparisons=2))
        misses += any(lead.low > 0 or lead.high < 0 for lead in leads)
    assert misses / 400 <= 0.05


def lead(labels: int, mean: float, half: float, over: str = "EfficientNetB0") -> Lead:
    return Lead(labels=labels, over=over, mean=mean, low=mean - half, high=mean + half)


@pytest.mark.parametrize(
    ("leads", "expected"),
    [
        (
            [lead(50, 0.12, 0.03), lead(500, 0.02, 0.05, "supervised"), lead(5000, -0.1, 0.03)],
            "Yes, with 50 labels: pretraining gained 12.0 points over EfficientNetB0, the best alternative there (95 % "
            "interval +9.0 to +15.0 for all 3 numbers of labels together); with 5,000 labels EfficientNetB0 is better "
            "by 10.0 points; with 500 labels no difference is significant.",
        ),
        (
            [lead(1, 0.01, 0.02), lead(500, 0.02, 0.05, "supervised")],
            "Not shown: with no number of labels is this encoder significantly better than the best alternative; with "
            "500 labels it is +2.0 points from training from scratch (95 % interval -3.0 to +7.0 for all 2 numbers of "
            "labels together).",
        ),
        (
            [lead(1, -0.05, 0.02)],
            "No: with every number of labels an alternative is better; with 1 label EfficientNetB0 is better by 5.0 "
            "points (95 % interval +3.0 to +7.0).",
        ),
        ([lead(9, 0.05, 0.05)], "Not shown: "),
        ([lead(9, 0.05, 0.02), lead(90, 0.07, 0.02)], "Yes, with 90 labels: pretraining gained 7.0 points"),
    ],
)
def test_the_answer_is_one_honest_sentence(leads, expected):
    found = worth.answer(tuple(leads))
    assert found.startswith(expected)
    assert found.count(". ") == 0


def test_what_must_be_beaten_is_beaten_by_the_gates_own_test():
    better, same = (
        gate.Rival(f"the reference {name}", 0.6, significance.difference(hits(0.7, 1)[0], hits(accuracy, 1)[0]))
        for name, accuracy in (("a", 0.6), ("b", 0.7))
    )
    candidate = gate.Candidate(0.7, {"cat": 0.7}, 400, better, must_beat=(better, same))
    settings = EvaluatorSettings(beat_untrained=False, tolerance=None)
    found = gate.checks(settings, candidate)
    assert [(check.name, check.passed) for check in found] == [("must_beat", True), ("must_beat", False)]
    assert "does not beat the 60.0% of the reference b significantly" in found[1].sentence


def test_the_best_alternative_is_chosen_for_each_number_of_labels():
    ours = {10: hits(0.5, 5), 100: hits(0.8, 1)}
    others = {"a": {10: hits(0.9, 5), 100: hits(0.1, 1)}, "b": {10: hits(0.1, 5), 100: hits(0.9, 1)}}
    assert [(found.labels, found.over) for found in worth.leads(ours, others)] == [(10, "a"), (100, "b")]


def test_draws_are_those_of_shares_and_folds_but_not_of_all_labels():
    labels, folds = np.arange(200) % 4, np.zeros([200, 16], bool)
    folds[:100, 0] = folds[100:, 1] = True
    rows = embedding.Rows(labels, folds, {}, np.zeros([200, 2], np.int64), np.array([""] * 200))
    drawn = references.draws(EvaluatorSettings(label_shares=(0.5, 0.1, 0.999)), rows)
    assert {labels: len(subsets) for labels, subsets in drawn.items()} == {20: 5, 100: 2}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"must_beat": ["supervised"]}, "is not one of the references (none): name it in evaluator.references first"),
        ({"must_beat": ["champion"], "references": {"supervised": {}}}, "(supervised): set evaluator.tolerance"),
        ({"must_beat": ["untrained"]}, "set evaluator.beat_untrained"),
        ({"references": {"pretrained": [{"network": "A"}, {"network": "./A"}]}}, "two references are called 'A'"),
        ({"references": {"pretrained": [{"network": "A", "name": "champion"}]}}, "'champion'"),
    ],
)
def test_names_that_cannot_be_meant_are_refused_when_the_settings_are_read(given, told):
    with pytest.raises(ValidationError) as caught:
        EvaluatorSettings.model_validate(given)
    assert told in str(caught.value)


class _Text(HTMLParser):
    def __init__(self, content: str):
        super().__init__()
        self.text = ""
        self.feed(content)

    def handle_data(self, data):
        self.text = " ".join(f"{self.text} {data}".split())


@pytest.mark.long
def test_an_encoder_beside_its_references(tmp_path):
    examples = write_examples(tmp_path / "examples", {"unlabelled": 3, "train": 60, "test": 45})
    keras.utils.set_random_seed(1)
    encoder = build_encoder(SETTINGS.encoder, (32, 32))
    model = str(tmp_path / "model")
    export.export_encoder(encoder, SETTINGS, (32, 32), model, TrainingFigures(steps=9, seconds=2.0))
    keras.Sequential([keras.Input([16, 16, 3]), keras.layers.Conv2D(4, 3, 2)]).save(tmp_path / "other.keras")
    other = {"network": str(tmp_path / "other.keras"), "name": "other/<b>"}
    result = evaluated(
        *(tmp_path, examples, model),
        references={"supervised": {"patience": 2}, "pretrained": [other]},
        must_beat=["supervised", "other/<b>"],
        label_shares=(0.1,),
        neighbours=(5,),
        beat_untrained=False,
    )
    found = result.metrics
    rows = {row.name: row for row in found.references}
    assert list(rows) == ["this encoder", "untrained", "other/<b>", "supervised"]
    assert {tuple((point.labels, point.draws) for point in row.points) for row in found.references[:3]} == {
        ((6, 5), (60, 1))
    }
    assert [point.draws for point in rows["supervised"].points] == [1, 1]
    # What decides on the release, and what is shown without it, is the same.
    assert rows["this encoder"].points[-1].accuracy == found.probe_accuracy
    assert rows["untrained"].points[-1].accuracy == found.untrained_accuracy
    assert rows["this encoder"].points[0].accuracy == found.label_shares[0.1].mean
    assert rows["other/<b>"].image_size == (16, 16)
    assert rows["other/<b>"].parameters == 3 * 3 * 3 * 4 + 4
    network = pretrained.load(PretrainedSettings.model_validate(other), "SETTING")
    pretrained.export_pretrained(network, str(tmp_path / "exported"))
    # The same files; the names of functions in them differ by some letters.
    assert rows["other/<b>"].size_bytes == pytest.approx(export.size(str(tmp_path / "exported")).size_bytes, abs=500)
    seconds = [row.training_seconds for row in found.references]
    assert seconds[:3] == [2.0, 0.0, None]
    assert 0 < seconds[3] < 10
    assert all(row.images_per_second > 0 and row.batch == 45 for row in found.references)
    assert [(check.name, check.passed) for check in found.checks] == [("must_beat", False)] * 2
    assert "of the reference supervised significantly" in found.checks[1].sentence + found.checks[0].sentence
    # Squares of one colour are told apart by every encoder.
    assert found.worth.startswith("Not shown: ")
    shown = page.render(result, model, str(tmp_path))
    assert "other/<b>" not in shown.replace("&lt;b&gt;", "")
    text = _Text(shown).text
    assert found.worth in text
    for part in ("Was it worth it?", "6 labels", "60 labels", "45 at once", "other/<b>"):
        assert part in text


@pytest.mark.long
def test_references_do_not_gate_unless_they_are_named(tmp_path):
    examples = write_examples(tmp_path / "examples", {"unlabelled": 3, "train": 30, "test": 30})
    keras.utils.set_random_seed(1)
    model = str(tmp_path / "model")
    export.export_encoder(build_encoder(SETTINGS.encoder, (32, 32)), SETTINGS, (32, 32), model)
    settings = {"references": {"supervised": {"seconds": 0.5, "patience": 1}}, "label_shares": ()}
    found = evaluated(tmp_path, examples, model, beat_untrained=False, neighbours=(5,), **settings).metrics
    assert found.checks == ()
    assert found.blessed
    assert found.worth
