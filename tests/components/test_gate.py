"""Which candidate is blessed: tests, intervals and sentences."""

import numpy as np
import pytest
from scipy.stats import binom

from components.linear_probe_evaluator import gate, significance
from components.linear_probe_evaluator.artifact import Difference
from components.linear_probe_evaluator.config import EvaluatorSettings
from tests.benchmarks import gate_errors


def compared(images: int, gained: int, lost: int) -> Difference:
    """Compares two encoders: the first alone is right on `gained` images, and the second alone on `lost`."""
    ours, theirs = np.zeros([2, images], bool)
    ours[:gained] = True
    theirs[gained : gained + lost] = True
    return significance.difference(ours, theirs)


def test_intervals_of_accuracies_cover_the_truth_and_are_never_a_point():
    low, high = significance.accuracy_interval(np.ones(10))
    assert (round(low, 3), high) == (0.722, 1.0)
    low, high = significance.accuracy_interval(np.zeros(1))
    assert (low, round(high, 3)) == (0.0, 0.793)
    for truth in (0.05, 0.5, 0.9):
        hits = np.arange(101)
        intervals = [significance.accuracy_interval(np.arange(100) < count) for count in hits]
        covered = [low <= truth <= high for low, high in intervals]
        assert 0.93 < binom.pmf(hits, 100, truth) @ covered < 0.99


def test_a_comparison_is_exact_on_few_images_and_sharp_on_many():
    # One image proves nothing, and five that all speak for one encoder barely do: 1/2 to the power of 5.
    one, five, six = (compared(images, images, 0) for images in (1, 5, 6))
    assert (one.mean, one.p_value, one.low < 0) == (1.0, 0.5, True)
    assert five.p_value == pytest.approx(1 / 32)
    assert six.p_value == pytest.approx(1 / 64)
    # Two independent samples of 1,000 images differ by +-4 points; the same images show that 2 points are no chance.
    lead = compared(1000, 25, 5)
    assert (lead.images, lead.differing, lead.mean) == (1000, 30, 0.02)
    assert 0 < lead.low < 0.02 < lead.high < 0.035
    assert lead.p_value < 0.001
    # Equal on all images is not equal for certain.
    equal = compared(100, 0, 0)
    assert (equal.mean, equal.p_value) == (0.0, 1.0)
    assert equal.high == pytest.approx(-equal.low)
    assert 0.03 < equal.high < 0.04
    worst = compared(20, 0, 20)
    assert (worst.low, worst.p_value) == (-1.0, 1.0)


def test_the_interval_of_a_difference_is_tangos():
    """The example of Tango (1998), table 2: both are right on 43 images, and the second encoder alone on one."""
    ours, theirs = np.ones(44), np.ones(44)
    ours[0] = 0
    lead = significance.difference(ours, theirs)
    # Each end is the difference whose score is 1.96, here solved by hand for the constrained estimate.
    for end in (lead.low, lead.high):
        a, b, c = 88, -1 + (88 + 1) * end, -end * (1 - end)
        share = (np.sqrt(b * b - 4 * a * c) - b) / (2 * a)
        score = (-1 - 44 * end) / np.sqrt(44 * (2 * share + end * (1 - end)))
        assert abs(score) == pytest.approx(1.96, abs=0.001)
    assert lead.low < lead.mean < 0 < lead.high


def test_the_power_of_a_tolerance_is_what_simulated_equal_encoders_reach():
    rng = np.random.default_rng(0)
    images, share = 1000, 0.2
    leads = [compared(images, *rng.multinomial(images, [share / 2, share / 2, 1 - share])[:2]) for _ in range(400)]
    tolerance = significance.detectable_loss(leads[0])
    reached = np.mean([lead.low >= -tolerance for lead in leads])
    assert significance.power(leads[0], tolerance) == pytest.approx(0.8)
    assert reached == pytest.approx(0.8, abs=0.06)
    assert np.mean([lead.low >= -0.01 for lead in leads]) == pytest.approx(significance.power(leads[0], 0.01), abs=0.05)


UNTRAINED = gate.Rival("an untrained encoder", 0.3, compared(1000, 400, 100))
SAME = gate.Rival("an untrained encoder", 0.59, compared(1000, 110, 100))
CLOSE = gate.Rival("the champion m version 7", 0.605, compared(10_000, 10, 60))
NOISY = gate.Rival("the champion m version 7", 0.605, compared(1000, 100, 105))
FAR = gate.Rival("the champion m version 7", 0.7, compared(1000, 50, 150))
BEST = gate.Rival("the best release so far, m version 2", 0.7, compared(1000, 50, 150))
EVERY = {"floor": 0.5, "tolerance": 0.01, "least_recall": 0.2, "beat_untrained": True}
RECALL = {"cat": 0.25, "dog": 0.9}
GOOD = {"accuracy": 0.6, "recall": RECALL, "images": 1000, "untrained": UNTRAINED}


@pytest.mark.parametrize(
    ("settings", "measured", "expected"),
    [
        ({}, {}, {}),
        ({}, {"champion": CLOSE}, {}),
        ({}, {"accuracy": 0.4}, {"floor": "40.0% is below the floor 50.0%"}),
        ({}, {"recall": {"cat": 0.1, "dog": 0.15}}, {"least_recall": "cat 10.0%, dog 15.0% is below 20.0%"}),
        # A class without test images is named, and not counted as missed.
        ({}, {"recall": RECALL | {"eel": None}}, {}),
        ({}, {"recall": {"cat": 0.1, "eel": None}}, {"least_recall": "Without test images, not checked: eel."}),
        (
            {},
            {"untrained": SAME},
            {
                "beat_untrained": "does not beat the 59.0% of an untrained encoder significantly: +1.0 points on the "
                "same 1,000 images (95 % interval -1.9 to +3.9; exact McNemar test: p = 0.27; "
                "evaluator.beat_untrained)."
            },
        ),
        (
            {},
            {"champion": NOISY},
            {
                "champion": "may be more than 1.0 points behind the 60.5% of the champion m version 7: -0.5 points on "
                "the same 1,000 images (95 % interval -3.3 to +2.3 by Tango's score; an equally good encoder "
                "passes in 10% of all cases; evaluator.tolerance: 0.01)."
            },
        ),
        ({}, {"champion": FAR}, {"champion": "The probe accuracy 60.0% is more than 1.0 points behind the 70.0%"}),
        ({}, {"champion": CLOSE, "best_release": BEST}, {"best_release": "of the best release so far, m version 2"}),
        (
            {},
            {"champion_problem": "The champion m version 7 cannot be compared (no signature)"},
            {"champion_problem": "The champion m version 7 cannot be compared (no signature): the encoder is not "},
        ),
        ({}, {"without_embedding": 3}, {"embeddings": "no finite embedding of 3 labelled images"}),
        ({"least_test_images": 1001}, {}, {"least_test_images": "The number of test images, 1,000, is below 1,001"}),
        # Each switch turns off its own requirement and no other.
        ({"floor": None}, {"accuracy": 0.4}, {}),
        ({"floor": 0.0}, {"accuracy": 0.4}, {}),
        ({"least_recall": None}, {"recall": {"cat": 0.0}}, {}),
        ({"beat_untrained": False}, {"untrained": SAME}, {}),
        ({"tolerance": None}, {"champion": FAR, "best_release": BEST, "champion_problem": "none"}, {}),
        ({"tolerance": 0.04}, {"champion": NOISY}, {}),
        ({"tolerance": "auto"}, {"champion": NOISY}, {}),
        ({"tolerance": "auto"}, {"champion": FAR}, {"champion": "is more than 4.0 points behind"}),
        ({"accept_baseline_reset": True}, {"champion_problem": "The champion cannot be compared"}, {}),
    ],
)
def test_gate_says_with_numbers_what_is_met_and_what_is_not(settings, measured, expected):
    checks = gate.checks(EvaluatorSettings(**EVERY | settings), gate.Candidate(**GOOD | measured))
    failed = {check.name: check.sentence for check in checks if not check.passed}
    assert failed.keys() == expected.keys()
    for name, part in expected.items():
        assert part in failed[name]


def test_every_requirement_has_a_check_of_its_own():
    everything = gate.Candidate(**GOOD, champion=CLOSE, best_release=CLOSE, champion_problem="The champion is broken")
    names = [check.name for check in gate.checks(EvaluatorSettings(**EVERY), everything)]
    expected = ["floor", "least_recall", "beat_untrained", "champion", "champion_problem", "best_release"]
    assert names == expected
    off = EvaluatorSettings(floor=None, tolerance=None, least_recall=None, beat_untrained=False)
    assert gate.checks(off, everything) == []


def test_gate_at_its_bounds():
    """Exactly at a bound: what must be reached is reached, and a lead of nothing is none."""

    def passed(**measured) -> dict[str, bool]:
        settings = EvaluatorSettings(**EVERY | {"least_test_images": 1000})
        candidate = gate.Candidate(**GOOD | {"accuracy": 0.5, "recall": {"cat": 0.2, "dog": 0.9}} | measured)
        return {check.name: check.passed for check in gate.checks(settings, candidate)}

    def champion(low: float, high: float) -> gate.Rival:
        lead = compared(1000, 100, 100).model_copy(update={"low": low, "high": high})
        return gate.Rival("the champion m version 7", 0.51, lead)

    assert all(passed(champion=champion(-0.01, 0.01)).values())
    assert not passed(images=999)["least_test_images"]
    assert "least_test_images" not in passed(images=1000)
    # One end of the interval is within the tolerance, and the other one decides.
    assert not passed(champion=champion(-0.0101, 0.02))["champion"]
    barely = UNTRAINED.lead.model_copy(update={"p_value": significance.LEVEL})
    assert not passed(untrained=gate.Rival("an untrained encoder", 0.3, barely))["beat_untrained"]


def test_the_tolerance_auto_follows_the_test_set():
    def loss(images: int) -> str:
        rival = gate.Rival("the champion", 0.6, compared(images, images // 10, images // 10))
        check = gate.keeps_up("champion", "probe accuracy", 0.6, rival, "auto")
        assert check.passed
        assert "in 80% of all cases" in check.sentence or images == 100_000
        return check.sentence.split("more than ")[1].split(" points")[0]

    assert [loss(images) for images in (100, 1000, 8000, 100_000)] == ["13.1", "4.0", "1.4", "1.0"]
    # An encoder with the same hits passes, however few images there are.
    same = gate.Rival("the champion", 0.6, compared(5, 0, 0))
    assert gate.keeps_up("champion", "probe accuracy", 0.6, same, "auto").passed


@pytest.mark.long
def test_the_simulation_finds_few_false_blessings_and_fails_with_a_lax_gate(monkeypatch, capsys):
    arguments = ["--repeats", "300", "--images", "300"]
    with pytest.raises(SystemExit, check=lambda exit: exit.code == 0):
        gate_errors.main(arguments)
    assert "allowed: 5%" in capsys.readouterr().out
    # A gate that judges almost by the measured difference alone.
    monkeypatch.setattr(significance, "LEVEL", 0.5)
    monkeypatch.setattr(significance, "_QUANTILE", 0.01)
    with pytest.raises(SystemExit, check=lambda exit: exit.code == 1):
        gate_errors.main(arguments)
