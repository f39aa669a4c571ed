"""Checks a candidate against the requirements for a blessing."""

from collections.abc import Iterator
from dataclasses import dataclass

from components.linear_probe_evaluator import significance
from components.linear_probe_evaluator.artifact import Check, Difference
from components.linear_probe_evaluator.config import AUTO, EvaluatorSettings, Tolerance

# Of the tolerance `auto`: a smaller loss is not worth a test set that could show it.
_LEAST_TOLERANCE = 0.01


@dataclass(frozen=True)
class Rival:
    """Another encoder that a candidate is compared with.

    Attributes:
        name: The encoder's name in sentences.
        accuracy: The accuracy of the encoder's linear probe.
        lead: The accuracy of the candidate minus that of this encoder.
    """

    name: str
    accuracy: float
    lead: Difference


@dataclass(frozen=True)
class Candidate:
    """What the evaluator measured of a candidate.

    Attributes:
        accuracy: The accuracy of the candidate's linear probe.
        recall: The recall of each class by the class's name; None for a class without test images.
        images: The number of test images.
        untrained: An untrained encoder of the same architecture.
        champion: The registry's champion; None if there is none or if it cannot be measured.
        champion_problem: Why the champion cannot be measured; None if it can or if there is none.
        best_release: The release with the highest recorded accuracy, if it is not the champion.
        must_beat: The references that the candidate must beat.
        without_embedding: The number of images whose embedding is not finite.
    """

    accuracy: float
    recall: dict[str, float | None]
    images: int
    untrained: Rival
    champion: Rival | None = None
    champion_problem: str | None = None
    best_release: Rival | None = None
    must_beat: tuple[Rival, ...] = ()
    without_embedding: int = 0


def checks(settings: EvaluatorSettings, candidate: Candidate) -> list[Check]:
    """Checks a candidate against every requirement that is switched on.

    Returns:
        One check per requirement; those that every sound evaluation meets, only if they are missed.
    """
    return list(_checks(settings, candidate))


def _checks(settings: EvaluatorSettings, candidate: Candidate) -> Iterator[Check]:
    if candidate.without_embedding:
        yield has_no_embeddings(candidate.without_embedding, "labelled images")
    if candidate.images < settings.least_test_images:
        yield has_too_few_images(candidate.images, settings.least_test_images, "test images")
    accuracy = candidate.accuracy
    # A floor of 0 requires nothing.
    if settings.floor:
        yield _reaches_floor(accuracy, settings.floor)
    if settings.least_recall is not None:
        yield _reaches_recall_in_every_class(candidate.recall, settings.least_recall)
    if settings.beat_untrained:
        yield beats("beat_untrained", "probe accuracy", accuracy, candidate.untrained)
    for reference in candidate.must_beat:
        yield beats("must_beat", "probe accuracy", accuracy, reference)
    if settings.tolerance is None:
        return
    if candidate.champion:
        yield keeps_up("champion", "probe accuracy", accuracy, candidate.champion, settings.tolerance)
    if candidate.champion_problem:
        yield may_skip_champion(candidate.champion_problem, settings.accept_baseline_reset)
    # Small losses, each within the tolerance, could otherwise add up over the releases.
    if candidate.best_release:
        yield keeps_up("best_release", "probe accuracy", accuracy, candidate.best_release, settings.tolerance)


def beats(name: str, measure: str, value: float, rival: Rival) -> Check:
    """Checks whether a candidate is significantly better than a rival, by the exact McNemar test.

    Args:
        name: Name of the check, which is also that of the setting.
        measure: Name of what is compared, for the sentence.
        value: The candidate's value, a share of images.
        rival: The rival, whose `accuracy` is the same measure.
    """
    lead = rival.lead
    passed = lead.p_value < significance.LEVEL
    return Check(
        name=name,
        passed=passed,
        sentence=f"The {measure} {value:.1%} {'beats' if passed else 'does not beat'} the {rival.accuracy:.1%} of "
        f"{rival.name} significantly: "
        + _points(lead, "", f"exact McNemar test: p {_probability(lead.p_value)}; evaluator.{name}"),
    )


def keeps_up(name: str, measure: str, value: float, rival: Rival, tolerance: Tolerance) -> Check:
    """Checks whether a candidate is at most a tolerance worse than a rival, by Tango's test of non-inferiority.

    Args:
        name: Name of the check.
        measure: Name of what is compared, for the sentence.
        value: The candidate's value, a share of images.
        rival: The rival, whose `accuracy` is the same measure.
        tolerance: The tolerated loss, or `auto`: the one that an equally good encoder meets with a power of 80 %, and
            at least 1 point.
    """
    lead = rival.lead
    loss = max(_LEAST_TOLERANCE, significance.detectable_loss(lead)) if tolerance == AUTO else tolerance
    passed = lead.low >= -loss
    relation = "is not" if passed else "is" if lead.high < -loss else "may be"
    return Check(
        name=name,
        passed=passed,
        sentence=f"The {measure} {value:.1%} {relation} more than {100 * loss:.1f} points behind the "
        f"{rival.accuracy:.1%} of {rival.name}: "
        + _points(
            lead,
            " by Tango's score",
            f"an equally good encoder passes in {significance.power(lead, loss):.0%} of all cases; "
            f"evaluator.tolerance: {tolerance}",
        ),
    )


def has_no_embeddings(without: int, images: str) -> Check:
    """Refuses a candidate whose embeddings of so many images, of the kind that `images` names, are not finite."""
    return Check(
        name="embeddings",
        passed=False,
        sentence=f"The encoder gives no finite embedding of {without:,} {images}; they count as zeros.",
    )


def has_too_few_images(number: int, least: int, images: str) -> Check:
    """Refuses a verdict on so few images, of the kind that `images` names."""
    return Check(
        name="least_test_images",
        passed=False,
        sentence=f"The number of {images}, {number:,}, is below {least:,} (evaluator.least_test_images).",
    )


def may_skip_champion(problem: str, accepted: bool) -> Check:
    """Checks whether a candidate may be released without a comparison with the champion.

    Args:
        problem: Why the champion cannot be measured, a clause.
        accepted: Whether the settings allow it.
    """
    consequence = (
        "the encoder may be released without a comparison (evaluator.accept_baseline_reset)"
        if accepted
        else "the encoder is not released without a comparison, unless --accept-baseline-reset allows it"
    )
    return Check(name="champion_problem", passed=accepted, sentence=f"{problem}: {consequence}.")


def _reaches_floor(accuracy: float, floor: float) -> Check:
    passed = accuracy >= floor
    relation = "reaches" if passed else "is below"
    return Check(
        name="floor",
        passed=passed,
        sentence=f"The probe accuracy {accuracy:.1%} {relation} the floor {floor:.1%} (evaluator.floor).",
    )


def _reaches_recall_in_every_class(recall: dict[str, float | None], least: float) -> Check:
    measured = {name: share for name, share in recall.items() if share is not None}
    weakest = min(measured, key=measured.__getitem__)
    unmeasured = [name for name, share in recall.items() if share is None]
    without = f" Without test images, not checked: {', '.join(unmeasured)}." if unmeasured else ""
    missed = [f"{name} {share:.1%}" for name, share in measured.items() if share < least]
    if missed:
        sentence = f"The recall of {', '.join(missed)} is below {least:.1%}"
    else:
        sentence = (
            f"Every class with test images reaches a recall of {least:.1%}; the weakest, {weakest}, has "
            f"{measured[weakest]:.1%}"
        )
    return Check(name="least_recall", passed=not missed, sentence=f"{sentence} (evaluator.least_recall).{without}")


def _points(lead: Difference, method: str, remarks: str) -> str:
    return (
        f"{100 * lead.mean:+.1f} points on the same {lead.images:,} images (95 % interval {100 * lead.low:+.1f} to "
        f"{100 * lead.high:+.1f}{method}; {remarks})."
    )


def _probability(value: float) -> str:
    return f"= {value:.2g}" if value >= 0.001 else "< 0.001"
