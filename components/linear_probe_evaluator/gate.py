"""Checks a candidate against the requirements for a blessing."""

from dataclasses import dataclass

from components.linear_probe_evaluator.artifact import Check, Difference
from components.linear_probe_evaluator.config import EvaluatorSettings


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


def checks(
    settings: EvaluatorSettings,
    accuracy: float,
    recall: dict[str, float],
    untrained: Rival,
    champion: Rival | None,
    champion_problem: str | None,
) -> list[Check]:
    """Checks a candidate against every requirement that is switched on.

    Args:
        settings: The requirements.
        accuracy: The accuracy of the candidate's linear probe.
        recall: The recall of each class by the class's name.
        untrained: An untrained encoder of the same architecture.
        champion: The registry's champion; None if there is none or if it cannot be measured.
        champion_problem: Why the champion cannot be measured; None if it can or if there is none.

    Returns:
        One check per requirement.
    """
    results = []
    # A floor of 0 requires nothing.
    if settings.floor:
        results.append(_reaches_floor(accuracy, settings.floor))
    if settings.least_recall is not None:
        results.append(_reaches_recall_in_every_class(recall, settings.least_recall))
    if settings.beat_untrained:
        results.append(_beats_untrained(accuracy, untrained))
    if settings.tolerance is not None and champion:
        results.append(_keeps_up_with_champion(accuracy, champion, settings.tolerance))
    if settings.tolerance is not None and champion_problem:
        results.append(_may_skip_champion(champion_problem, settings.accept_baseline_reset))
    return results


def _reaches_floor(accuracy: float, floor: float) -> Check:
    passed = accuracy >= floor
    relation = "reaches" if passed else "is below"
    return Check(
        passed=passed, sentence=f"The probe accuracy {accuracy:.1%} {relation} the floor {floor:.1%} (evaluator.floor)."
    )


def _reaches_recall_in_every_class(recall: dict[str, float], least: float) -> Check:
    weakest = min(recall, key=recall.__getitem__)
    missed = [f"{name} {share:.1%}" for name, share in recall.items() if share < least]
    if missed:
        return Check(
            passed=False, sentence=f"The recall of {', '.join(missed)} is below {least:.1%} (evaluator.least_recall)."
        )
    sentence = f"Every class reaches a recall of {least:.1%}; the weakest, {weakest}, has {recall[weakest]:.1%}"
    return Check(passed=True, sentence=f"{sentence} (evaluator.least_recall).")


def _beats_untrained(accuracy: float, untrained: Rival) -> Check:
    passed = untrained.lead.low > 0
    relation = "beats" if passed else "does not beat"
    return Check(
        passed=passed,
        sentence=f"The probe accuracy {accuracy:.1%} {relation} the {untrained.accuracy:.1%} of {untrained.name} "
        "significantly: "
        f"{_points(untrained.lead)} (evaluator.beat_untrained).",
    )


def _keeps_up_with_champion(accuracy: float, champion: Rival, tolerance: float) -> Check:
    passed = champion.lead.low >= -tolerance
    relation = "is not" if passed else "is" if champion.lead.high < -tolerance else "may be"
    return Check(
        passed=passed,
        sentence=f"The probe accuracy {accuracy:.1%} {relation} more than {100 * tolerance:.1f} points behind the "
        f"{champion.accuracy:.1%} of {champion.name}: {_points(champion.lead)} (evaluator.tolerance).",
    )


def _may_skip_champion(problem: str, accepted: bool) -> Check:
    consequence = (
        "the encoder may be released without a comparison (evaluator.accept_baseline_reset)"
        if accepted
        else "the encoder is not released without a comparison, unless --accept-baseline-reset allows it"
    )
    return Check(passed=accepted, sentence=f"{problem}: {consequence}.")


def _points(lead: Difference) -> str:
    return (
        f"{100 * lead.mean:+.1f} points on the same test images (95 % interval {100 * lead.low:+.1f} to "
        f"{100 * lead.high:+.1f})"
    )
