"""Finds problems that make the figures misleading: suspicious images, a collapsed encoder, images in several splits."""

import numpy as np

from components.data_gate.artifact import DataCheck
from components.image_example_gen import duplicates
from components.linear_probe_evaluator.artifact import Duplicates, Findings
from components.linear_probe_evaluator.embedding import Rows
from components.linear_probe_evaluator.probes import Labelled
from trainer import metrics, splits

# The number of images that RankMe's authors found to be sufficient (arXiv 2210.02885).
_MOST_IMAGES_FOR_RANK = 25_600
_PAIRS_OF_SPLITS = (
    (splits.TEST, splits.TRAIN),
    (splits.TEST, splits.UNLABELLED),
    (splits.TRAIN, splits.UNLABELLED),
)


def of_data(checks: tuple[DataCheck, ...]) -> Findings:
    """Returns what DataGate warned of."""
    return Findings(findings=tuple(sentence for check in checks if not check.passed for sentence in check.sentences))


def find(rows: dict[str, Rows], test: Labelled, checks: tuple[DataCheck, ...]) -> Findings:
    """Looks for collapse and leakage, and adds what DataGate warned of.

    Args:
        rows: The rows of each split.
        test: The features and labels of the test split.
        checks: DataGate's verdicts.
    """
    rank = metrics.rank_me(np.asarray(test.features[:_MOST_IMAGES_FOR_RANK]))
    classes = len(np.unique(test.labels))
    sentences = list(of_data(checks).findings)
    if rank < classes - 1:
        sentences.append(
            f"The test embeddings have {test.features.shape[1]} dimensions but an effective rank (RankMe) of only "
            f"{rank:.1f}, too low to separate {classes} classes: the encoder has collapsed or nearly collapsed."
        )
    counts: dict[str, Duplicates] = {}
    for split, other in _PAIRS_OF_SPLITS:
        copies = {
            kind: duplicates.occur_in(rows[split].hashes[kind], rows[other].hashes[kind]) for kind in duplicates.KINDS
        }
        images = len(rows[split].labels)
        by_kind = {kind: int(copies[kind].sum()) for kind in duplicates.KINDS}
        counts[f"{split} in {other}"] = Duplicates(images=images, **by_kind)
        either = int(np.any(list(copies.values()), axis=0).sum())
        if either:
            consequence = (
                "the accuracy is overestimated"
                if other == splits.TRAIN
                else "the encoder was pretrained on these images, although without their labels"
            )
            sentences.append(
                f"{either:,} of the {images:,} images of {split} also occur in {other} "
                f"({by_kind[duplicates.EXACT]:,} identical, {by_kind[duplicates.LOOK]:,} visually alike): "
                f"{consequence}."
            )
    return Findings(rank_me=rank, duplicates=counts, findings=tuple(sentences))
