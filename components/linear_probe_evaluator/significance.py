"""Tests and intervals of shares of images: how far chance can explain an accuracy or a difference of two.

Each image is a trial with two outcomes: an encoder's probe is right (a hit) or wrong. Two encoders are compared on the
same images, so that only the images count on which exactly one of them is right. An image that is hard for one encoder
tends to be hard for the other, so the comparison is sharper than two separate intervals suggest.
"""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, norm

from components.linear_probe_evaluator.artifact import Difference, Interval

#: Probability with which a one-sided test errs at most. Intervals at this level on both sides are 95 % intervals.
LEVEL = 0.025
_QUANTILE = float(norm.isf(LEVEL))
# Power for which studies are commonly planned (Cohen 1988).
_COMMON_POWER = 0.8
_LEAST_VARIANCE = 1e-12


def accuracy_interval(hits: np.ndarray) -> Interval:
    """Returns the 95 % interval of an accuracy by Wilson's score (Wilson 1927).

    It has a width also if all images are hits.

    Args:
        hits: Whether each image is a hit, [N] of 0 and 1; at least one.
    """
    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(1 - 2 * LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def difference(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """Compares two encoders on the same images.

    The p-value is that of the exact McNemar test: of the images on which exactly one encoder is right, each would
    be ours with probability 1/2 if both were equally good. The interval inverts Tango's score test (Statistics in
    Medicine 17, 1998, pages 891-908).

    Args:
        ours: Whether each image is a hit of our encoder, [N] of 0 and 1.
        theirs: The same of the other encoder.
    """
    images = len(ours)
    gained, lost = int((ours > theirs).sum()), int((ours < theirs).sum())
    p_value = binomtest(gained, gained + lost, alternative="greater").pvalue if gained + lost else 1.0

    def end(quantile: float, outermost: float) -> float:
        """Returns the difference whose score is `quantile`, between the measured one and the outermost one."""
        measured = (gained - lost) / images
        if measured == outermost:
            return measured
        return float(brentq(lambda true: _score(gained, lost, images, true) - quantile, measured, outermost))

    return Difference(
        mean=(gained - lost) / images,
        low=end(_QUANTILE, -1.0),
        high=end(-_QUANTILE, 1.0),
        images=images,
        differing=gained + lost,
        p_value=float(p_value),
    )


def _score(gained: int, lost: int, images: int, true: float) -> float:
    """Returns Tango's score of the hypothesis that the difference of the accuracies is `true`."""
    surplus = gained - lost - images * true
    # The most likely share of images that are lost, given the difference.
    a, b = 2 * images, -gained - lost + (2 * images - gained + lost) * true
    share = (math.sqrt(max(0.0, b * b + 4 * a * lost * true * (1 - true))) - b) / (2 * a)
    # At a difference of 1 or -1 the variance is 0.
    return surplus / math.sqrt(max(images * (2 * share + true * (1 - true)), _LEAST_VARIANCE))


def spread(lead: Difference) -> float:
    """Returns the standard error of a difference between encoders that are equally good."""
    # Two more images that differ keep the spread above zero if none does (Agresti and Min 2005).
    return math.sqrt(lead.differing + 2) / lead.images


def detectable_loss(lead: Difference) -> float:
    """Returns the smallest tolerance that an equally good encoder meets in 80 % of all cases."""
    return (_QUANTILE + float(norm.ppf(_COMMON_POWER))) * spread(lead)


def power(lead: Difference, tolerance: float) -> float:
    """Returns the probability that an equally good encoder meets a tolerance on so many images.

    Args:
        lead: The comparison, for the number of images and the share on which the encoders differ.
        tolerance: The tolerated loss of accuracy.
    """
    return float(norm.cdf(tolerance / spread(lead) - _QUANTILE))
