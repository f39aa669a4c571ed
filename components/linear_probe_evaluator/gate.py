"""Who is blessed, and why not."""

from components.linear_probe_evaluator.config import EvaluatorSettings


def reasons_against(
    settings: EvaluatorSettings, accuracy: float, untrained: float, champion: tuple[str, float] | None
) -> list[str]:
    """Why an encoder must not be released, a sentence with numbers each; empty if it may.

    Args:
        settings: floor and tolerance.
        accuracy: of the candidate's linear probe.
        untrained: the same for an untrained encoder.
        champion: name and the same for the registry's champion, if there is one.
    """
    reasons = []
    if accuracy < settings.floor:
        reasons.append(f"The probe accuracy {accuracy:.1%} is below the floor {settings.floor:.1%} (evaluator.floor).")
    if accuracy <= untrained:
        reasons.append(f"The probe accuracy {accuracy:.1%} is not above an untrained encoder's {untrained:.1%}.")
    if champion and accuracy < champion[1] - settings.tolerance:
        reasons.append(
            f"The probe accuracy {accuracy:.1%} falls behind the {champion[1]:.1%} of the champion {champion[0]} by "
            f"more than {settings.tolerance:.1%} (evaluator.tolerance)."
        )
    return reasons
