"""Answers whether pretraining was worth it: an encoder against what its user would pick instead."""

from components.linear_probe_evaluator import label_curves
from components.linear_probe_evaluator.artifact import Lead
from components.linear_probe_evaluator.config import SUPERVISED
from components.linear_probe_evaluator.label_curves import Curve


def leads(ours: Curve, alternatives: dict[str, Curve]) -> tuple[Lead, ...]:
    """Compares an encoder, at each number of labels, with the alternative that is best there.

    The intervals hold for all numbers of labels together with a probability of 95 %.

    Args:
        ours: The encoder.
        alternatives: The other encoders by name; at least one.
    """
    best = {labels: max(alternatives, key=lambda name: alternatives[name][labels].mean()) for labels in sorted(ours)}
    return tuple(
        label_curves.lead(ours[labels], alternatives[name][labels], labels, name, len(best))
        for labels, name in best.items()
    )


def answer(found: tuple[Lead, ...]) -> str:
    """Says in one sentence what pretraining gained, and where.

    Args:
        found: The leads over the best alternative, by rising number of labels; see `leads`.
    """
    won = [lead for lead in found if lead.low > 0]
    lost = [lead for lead in found if lead.high < 0]
    open_ = [lead for lead in found if lead.low <= 0 <= lead.high]
    together = "" if len(found) == 1 else f" for all {len(found)} numbers of labels together"
    if won:
        most = max(won, key=lambda lead: lead.mean)
        others = [
            f"with {_count(lead)} it gained {100 * lead.mean:.1f} points over {_name(lead)}"
            for lead in won
            if lead is not most
        ]
        unclear = [f"with {_listed(open_)} no difference is significant"] if open_ else []
        return _sentence(
            f"Yes, with {_count(most)}: pretraining gained {100 * most.mean:.1f} points over {_name(most)}, the best "
            f"alternative there ({_interval(most)}{together})",
            *others,
            *map(_loss, lost),
            *unclear,
        )
    if open_:
        largest = max(open_, key=lambda lead: lead.mean)
        return _sentence(
            "Not shown: with no number of labels is this encoder significantly better than the best alternative; with "
            f"{_count(largest)} it is {100 * largest.mean:+.1f} points from {_name(largest)} "
            f"({_interval(largest)}{together})",
            *map(_loss, lost),
        )
    least = max(lost, key=lambda lead: lead.mean)
    return _sentence(
        f"No: with every number of labels an alternative is better; {_loss(least)} ({_turned(least)}{together})",
        *(_loss(lead) for lead in lost if lead is not least),
    )


def _sentence(*parts: str) -> str:
    return f"{'; '.join(parts)}."


def _loss(lead: Lead) -> str:
    return f"with {_count(lead)} {_name(lead)} is better by {-100 * lead.mean:.1f} points"


def _name(lead: Lead) -> str:
    return "training from scratch" if lead.over == SUPERVISED else lead.over


def _listed(leads: list[Lead]) -> str:
    *first, last = [f"{lead.labels:,}" for lead in leads]
    return f"{' and '.join([', '.join(first), last] if first else [last])} labels"


def _count(lead: Lead) -> str:
    return f"{lead.labels:,} label{'s' if lead.labels > 1 else ''}"


def _turned(lead: Lead) -> str:
    """Returns the interval of the other encoder's lead."""
    return f"95 % interval {-100 * lead.high:+.1f} to {-100 * lead.low:+.1f}"


def _interval(lead: Lead) -> str:
    return f"95 % interval {100 * lead.low:+.1f} to {100 * lead.high:+.1f}"
