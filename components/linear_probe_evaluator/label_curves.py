"""Accuracies by number of labels, and the differences of two encoders, with intervals.

For each number of labels, an encoder is measured once or with several draws of so many labels. An interval covers both
what makes such a figure uncertain: which images are in the test split, and which labels were drawn. The first part is
that of `significance`, averaged over the draws; the second is Student's interval of the mean over the draws. The two
are independent, so the squares of their lengths are added at each end (Zou and Donner, Statistics in Medicine 27,
2008, pages 1693-1702).
"""

import math

import numpy as np
from scipy.stats import norm, t

from components.linear_probe_evaluator import significance
from components.linear_probe_evaluator.artifact import CurvePoint, Lead

#: Whether each test image is a hit, by number of labels: bool [draws, N].
Curve = dict[int, np.ndarray]


def points(curve: Curve) -> tuple[CurvePoint, ...]:
    """Returns the accuracy for each number of labels, in rising order."""
    found = []
    for labels, hits in sorted(curve.items()):
        mean = float(hits.mean())
        intervals = np.array([significance.accuracy_interval(draw) for draw in hits])
        below, above = (float(np.mean(np.abs(intervals[:, end] - hits.mean(1)))) for end in (0, 1))
        draws = _of_draws(hits.mean(1), 1 / len(hits))
        low, high = max(0.0, mean - math.hypot(below, draws)), min(1.0, mean + math.hypot(above, draws))
        found.append(CurvePoint(labels=labels, accuracy=mean, low=low, high=high, draws=len(hits)))
    return tuple(found)


def lead(ours: np.ndarray, theirs: np.ndarray, labels: int, name: str, comparisons: int = 1) -> Lead:
    """Compares two encoders that were measured with the same number of labels, on the same test images.

    If both have the same number of draws, these are of the same labels. If only one has several, the other one's only
    draw counts as one that varies as much as these.

    Args:
        ours: Whether each test image is a hit of our encoder, bool [draws, N].
        theirs: The same of the other encoder.
        labels: The number of labels.
        name: The name of the other encoder.
        comparisons: The number of comparisons that hold together with a probability of 95 % (Bonferroni).
    """
    draws = max(len(ours), len(theirs))
    pairs = [(ours[i % len(ours)], theirs[i % len(theirs)]) for i in range(draws)]
    differences = [significance.difference(one, other) for one, other in pairs]
    means = np.array([difference.mean for difference in differences])
    # With one draw only on one side, that draw's luck remains in full.
    share = 1 / draws if len(ours) == len(theirs) else 1 / draws + 1
    of_draws = _of_draws(means, share)
    # The ends lie about so many standard errors away; those that hold together lie farther away.
    wider = float(norm.isf(significance.LEVEL / comparisons) / norm.isf(significance.LEVEL))
    mean = float(means.mean())
    below = float(np.mean([difference.mean - difference.low for difference in differences]))
    above = float(np.mean([difference.high - difference.mean for difference in differences]))
    return Lead(
        labels=labels,
        over=name,
        mean=mean,
        low=max(-1.0, mean - wider * math.hypot(below, of_draws)),
        high=min(1.0, mean + wider * math.hypot(above, of_draws)),
    )


def _of_draws(means: np.ndarray, share: float) -> float:
    """Returns half the length of Student's interval for the draws, 0 for one; their variance counts with a share."""
    if len(means) == 1:
        return 0.0
    return float(t.isf(significance.LEVEL, len(means) - 1) * np.std(means, ddof=1) * math.sqrt(share))
