"""Finds problems that make the figures misleading: suspicious images, a collapsed encoder, images in several splits."""

from collections.abc import Iterable

import numpy as np

from components.data_gate.artifact import DataCheck
from components.linear_probe_evaluator import significance
from components.linear_probe_evaluator.artifact import Difference, Findings
from components.linear_probe_evaluator.copies import Copies
from trainer import metrics

# The number of images that RankMe's authors found to be sufficient (arXiv 2210.02885).
_MOST_IMAGES_FOR_RANK = 25_600
# An encoder has collapsed if the effective rank of its embeddings is below the first bound, or below both shares.
_LEAST_RANK = 2.0
_SHARE_OF_UNTRAINED, _SHARE_OF_MOST = 0.5, 0.1


def of_data(checks: tuple[DataCheck, ...]) -> Findings:
    """Returns what DataGate warned of."""
    return Findings(findings=tuple(sentence for check in checks if not check.passed for sentence in check.sentences))


def find(
    copies: Copies,
    features: np.ndarray,
    untrained_features: np.ndarray,
    lead: Difference | None,
    sentences: Iterable[str],
    checks: tuple[DataCheck, ...],
) -> Findings:
    """Looks for collapse, and adds what was found before.

    Args:
        copies: The images that occur in two splits.
        features: The encoder's features of the test split, [N, d].
        untrained_features: The features of an untrained encoder, [N, d].
        lead: The lead of the encoder's probe over that of the untrained encoder.
        sentences: Other findings.
        checks: DataGate's verdicts.
    """
    sentences = [*of_data(checks).findings, *sentences]
    rank, untrained_rank = _rank(features), _rank(untrained_features)
    if collapsed(rank, untrained_rank, min(features.shape), lead):
        sentences.append(
            f"The effective rank (RankMe) of the test embeddings is only {rank:.1f}, and that of an untrained encoder "
            f"{untrained_rank:.1f}, of at most {min(features.shape):,}: the encoder has collapsed or nearly collapsed."
        )
    return Findings(
        rank_me=rank,
        untrained_rank_me=untrained_rank,
        duplicates=copies.counts,
        findings=(*sentences, *copies.sentences),
    )


def collapsed(rank: float, untrained_rank: float, most: int, lead: Difference | None) -> bool:
    """Returns whether the embeddings of an encoder are nearly equal, or fill far fewer directions than before training.

    A low rank alone is no collapse: a perfect encoder of ten classes needs no more than ten directions. It therefore
    does not count if the encoder's probe beats that of the untrained encoder.

    Args:
        rank: The effective rank of the embeddings.
        untrained_rank: The effective rank of the embeddings of an untrained encoder of the same architecture.
        most: The greatest rank that is possible: the lesser of the numbers of images and of dimensions.
        lead: The lead over the untrained encoder on the same images; None if there are no labels.
    """
    if lead and lead.p_value < significance.LEVEL:
        return False
    return rank < min(_LEAST_RANK, most) or (
        rank < _SHARE_OF_UNTRAINED * untrained_rank and rank < _SHARE_OF_MOST * most
    )


def _rank(features: np.ndarray) -> float:
    """Returns RankMe of rows that are drawn at random, because rows are often sorted by class."""
    rows = np.random.default_rng(0).permutation(len(features))[:_MOST_IMAGES_FOR_RANK]
    return metrics.rank_me(np.asarray(features[np.sort(rows)]))
