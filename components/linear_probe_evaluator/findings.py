"""What a reader should know before trusting the figures: collapse, and images that occur on both sides."""

from typing import Any

import numpy as np

from components.linear_probe_evaluator import duplicates
from components.linear_probe_evaluator.artifact import Duplicates
from components.linear_probe_evaluator.embedding import Rows
from components.linear_probe_evaluator.probes import Labelled
from trainer import examples, metrics

# As many as RankMe's authors found to be enough (arXiv 2210.02885).
_RANKED = 25_600
_PAIRS = (
    (examples.TEST, examples.TRAIN),
    (examples.TEST, examples.UNLABELLED),
    (examples.TRAIN, examples.UNLABELLED),
)


def find(rows: dict[str, Rows], test: Labelled) -> dict[str, Any]:
    """Looks for collapse and leakage.

    Args:
        rows: of each split.
        test: features and labels of the test split.

    Returns:
        `rank_me` of the test embeddings (arXiv 2210.02885); `duplicates`, by pair of splits and kind of hash how many
        images of the first occur in the second; `findings`, a sentence for each thing that is suspicious.
    """
    rank = metrics.rank_me(np.asarray(test.features[:_RANKED]))
    classes = len(np.unique(test.labels))
    sentences = []
    if rank < classes - 1:
        sentences.append(
            f"The test embeddings fill only {rank:.1f} directions (RankMe) of {test.features.shape[1]}, too few to "
            f"part {classes} classes: the encoder has collapsed, or nearly."
        )
    counts: dict[str, Duplicates] = {}
    for split, other in _PAIRS:
        found = {
            kind: duplicates.found_in(rows[split].hashes[kind], rows[other].hashes[kind]) for kind in duplicates.KINDS
        }
        counts[f"{split} in {other}"] = Duplicates(
            images=len(rows[split].labels), **{kind: int(found[kind].sum()) for kind in duplicates.KINDS}
        )
        either = int(np.any(list(found.values()), axis=0).sum())
        if either:
            consequence = (
                "the accuracy flatters the encoder"
                if other == examples.TRAIN
                else "harmless for labels, which pretraining never sees, but the encoder has seen these images"
            )
            sentences.append(
                f"{either:,} of the {len(rows[split].labels):,} images of {split} occur in {other} as well "
                f"({int(found[duplicates.EXACT].sum()):,} to the byte, {int(found[duplicates.LOOK].sum()):,} by look): "
                f"{consequence}."
            )
    return {"rank_me": rank, "duplicates": counts, "findings": sentences}
