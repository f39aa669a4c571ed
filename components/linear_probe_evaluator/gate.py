"""Who is blessed, and why or why not."""

from dataclasses import dataclass

from components.linear_probe_evaluator.artifact import Check, Difference
from components.linear_probe_evaluator.config import EvaluatorSettings


@dataclass(frozen=True)
class Rival:
    """What a candidate is compared with: a name, its probe accuracy, and how far the candidate lies above it."""

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
    """Holds a candidate against every requirement that is on.

    Args:
        settings: the requirements.
        accuracy: of the candidate's linear probe.
        recall: the same by class.
        untrained: an untrained encoder of the same architecture.
        champion: the registry's, if there is one that can be measured.
        champion_problem: why there is one that cannot be.
    """
    found = []
    # A floor of 0 asks for nothing.
    if settings.floor:
        found.append(_reaches_floor(accuracy, settings.floor))
    if settings.least_recall is not None:
        found.append(_reaches_in_every_class(recall, settings.least_recall))
    if settings.beat_untrained:
        found.append(_beats(accuracy, untrained))
    if settings.tolerance is not None and champion:
        found.append(_keeps_up(accuracy, champion, settings.tolerance))
    if settings.tolerance is not None and champion_problem:
        found.append(_goes_without(champion_problem, settings.accept_baseline_reset))
    return found


def _reaches_floor(accuracy: float, floor: float) -> Check:
    passed = accuracy >= floor
    relation = "reaches" if passed else "is below"
    return Check(
        passed=passed, sentence=f"The probe accuracy {accuracy:.1%} {relation} the floor {floor:.1%} (evaluator.floor)."
    )


def _reaches_in_every_class(recall: dict[str, float], least: float) -> Check:
    weakest = min(recall, key=recall.__getitem__)
    missed = [f"{name} {share:.1%}" for name, share in recall.items() if share < least]
    if missed:
        return Check(
            passed=False, sentence=f"The recall of {', '.join(missed)} is below {least:.1%} (evaluator.least_recall)."
        )
    sentence = f"Every class reaches the recall {least:.1%}, the weakest ({weakest}) with {recall[weakest]:.1%}"
    return Check(passed=True, sentence=f"{sentence} (evaluator.least_recall).")


def _beats(accuracy: float, untrained: Rival) -> Check:
    passed = untrained.lead.low > 0
    relation = "beats" if passed else "does not beat"
    return Check(
        passed=passed,
        sentence=f"The probe accuracy {accuracy:.1%} {relation} the {untrained.accuracy:.1%} of {untrained.name} "
        "beyond chance: "
        f"{_points(untrained.lead)} (evaluator.beat_untrained).",
    )


def _keeps_up(accuracy: float, champion: Rival, tolerance: float) -> Check:
    passed = champion.lead.low >= -tolerance
    relation = "is not" if passed else "is" if champion.lead.high < -tolerance else "may be"
    return Check(
        passed=passed,
        sentence=f"The probe accuracy {accuracy:.1%} {relation} more than {100 * tolerance:.1f} points behind the "
        f"{champion.accuracy:.1%} of {champion.name}: {_points(champion.lead)} (evaluator.tolerance).",
    )


def _goes_without(problem: str, accepted: bool) -> Check:
    consequence = (
        "released without a comparison, as evaluator.accept_baseline_reset says"
        if accepted
        else "nothing is released without a comparison, unless --accept-baseline-reset allows it"
    )
    return Check(passed=accepted, sentence=f"{problem}: {consequence}.")


def _points(lead: Difference) -> str:
    return (
        f"{100 * lead.mean:+.1f} points on the same test images, 95 % interval {100 * lead.low:+.1f} to "
        f"{100 * lead.high:+.1f}"
    )
