"""The contrastive loss and its accuracies, for one replica's share of a global batch.

`Pairs` holds both views' local rows and, gathered over all replicas, the global ones: negatives are global
(arXiv 2104.14548, section 3.2: the sum runs over the whole batch), so the loss of a global batch does not depend on how
many devices share it.
"""

from typing import NamedTuple

import tensorflow as tf


class Pairs(NamedTuple):
    """One quantity of both views: `first` and `second`, [n, d] here and [N, d] over all replicas."""

    first: tf.Tensor
    second: tf.Tensor
    all_first: tf.Tensor
    all_second: tf.Tensor


def gather(*quantities: tuple[tf.Tensor, tf.Tensor]) -> list[Pairs]:
    """Gathers pairs of tensors [n, d] of every replica in one collective; gradients flow back to their replica."""
    context = tf.distribute.get_replica_context()
    flat = [tensor for pair in quantities for tensor in pair]
    together = context.all_gather(tf.concat(flat, axis=1), axis=0)
    everywhere = tf.split(together, [t.shape[1] for t in flat], axis=1)
    return [
        Pairs(*pair, everywhere[2 * i], everywhere[2 * i + 1])
        for i, pair in enumerate(quantities)
    ]  # fmt: skip


def local_targets(rows: tf.Tensor) -> tf.Tensor:
    """Where this replica's rows stand in the global batch: int [n]. `rows` is any local tensor of n rows."""
    count = tf.shape(rows)[0]
    return tf.distribute.get_replica_context().replica_id_in_sync_group * count + tf.range(count)


def _cross_entropy(anchors: tf.Tensor, candidates: tf.Tensor, targets: tf.Tensor, temperature: float) -> tf.Tensor:
    logits = tf.matmul(anchors, candidates, transpose_b=True) / temperature
    return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)


def nnclr_loss(neighbours: Pairs, projections: Pairs, temperature: float) -> tf.Tensor:
    """-log softmax of a neighbour's similarity to the other view's projection; four terms, as in the Keras example.

    Both views' neighbours are compared with the other view's projections, and the softmax is taken over projections
    (the paper's equation 2) and over neighbours.

    Args:
        neighbours: of the projections, L2-normalised float32.
        projections: L2-normalised float32.
        temperature: divides the similarities.

    Returns:
        The mean of the four terms for each local sample, float32 [n].
    """
    targets = local_targets(projections.first)
    terms = [
        _cross_entropy(neighbours.first, projections.all_second, targets, temperature),
        _cross_entropy(projections.second, neighbours.all_first, targets, temperature),
        _cross_entropy(neighbours.second, projections.all_first, targets, temperature),
        _cross_entropy(projections.first, neighbours.all_second, targets, temperature),
    ]
    return tf.add_n(terms) / len(terms)


def contrastive_accuracy(projections: Pairs) -> tf.Tensor:
    """How often a projection is most similar to the other view of its own image: float32 [n], both directions."""
    targets = local_targets(projections.first)

    def hits(anchors, candidates):
        found = tf.argmax(tf.matmul(anchors, candidates, transpose_b=True), axis=1, output_type=targets.dtype)
        return tf.cast(found == targets, tf.float32)

    there = hits(projections.first, projections.all_second)
    return (there + hits(projections.second, projections.all_first)) / 2


def correlation_accuracy(projections: Pairs) -> tf.Tensor:
    """How often a projection's component correlates best with itself in the other view: float32 scalar.

    Computed over the global batch (Barlow Twins' cross-correlation matrix), so every replica gets the same value.
    """

    def standardise(z):
        centred = z - tf.reduce_mean(z, axis=0)
        return tf.math.divide_no_nan(centred, tf.math.reduce_std(z, axis=0))

    correlations = tf.matmul(standardise(projections.all_first), standardise(projections.all_second), transpose_a=True)
    own = tf.range(tf.shape(correlations)[0])
    hits = [tf.argmax(correlations, axis=axis, output_type=own.dtype) == own for axis in (0, 1)]
    return tf.reduce_mean(tf.cast(hits, tf.float32))
