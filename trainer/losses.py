"""The contrastive loss and its accuracies, for one replica's share of a global batch.

Negatives are global (arXiv 2104.14548, section 3.2: the sum runs over the whole batch): every `View` has its local rows
and, gathered over all replicas, the global ones. So the loss of a global batch does not depend on how many devices
share it.
"""

from typing import NamedTuple

import tensorflow as tf


class View(NamedTuple):
    """One quantity of one view of the images: this replica's rows [n, d], and those of all replicas [N, d]."""

    local: tf.Tensor
    everywhere: tf.Tensor


def gather(*quantities: tf.Tensor) -> list[View]:
    """Gathers tensors [n, d] of every replica in one collective; gradients flow back to their replica."""
    together = tf.distribute.get_replica_context().all_gather(tf.concat(quantities, axis=1), axis=0)
    everywhere = tf.split(together, [quantity.shape[1] for quantity in quantities], axis=1)
    return [View(*pair) for pair in zip(quantities, everywhere, strict=True)]


def global_rows(local: tf.Tensor) -> tf.Tensor:
    """Where this replica's rows stand in the global batch: int32 [n]. `local` is any tensor of n rows."""
    count = tf.shape(local)[0]
    return tf.distribute.get_replica_context().replica_id_in_sync_group * count + tf.range(count)


def _cross_entropy(anchors: tf.Tensor, candidates: tf.Tensor, targets: tf.Tensor, temperature: float) -> tf.Tensor:
    logits = tf.matmul(anchors, candidates, transpose_b=True) / temperature
    return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)


def nnclr_loss(anchors: list[View], candidates: list[View], temperature: float, both_ways: bool = False) -> tf.Tensor:
    """-log softmax over the batch of an anchor's similarity to another view of its image (arXiv 2104.14548, eq. 2).

    A term for each anchor and each other view, averaged. With neighbours as anchors and predictions as candidates it
    is the paper's loss, symmetrised over the two views; with the projections as both it is InfoNCE, the paper's
    equation 1, which it calls SimCLR's (the negatives are other views only, as in its equation).

    Args:
        anchors: of the first two views, L2-normalised float32.
        candidates: of the same two views, and of any further ones, L2-normalised float32.
        temperature: divides the similarities.
        both_ways: also take the softmax over the anchors, as the Keras example does: twice as many terms.

    Returns:
        The loss of each local sample, float32 [n].
    """
    targets = global_rows(anchors[0].local)
    terms = []
    for i, anchor in enumerate(anchors):
        for j, candidate in enumerate(candidates):
            if i == j:
                continue
            terms.append(_cross_entropy(anchor.local, candidate.everywhere, targets, temperature))
            if both_ways:
                terms.append(_cross_entropy(candidate.local, anchor.everywhere, targets, temperature))
    return tf.add_n(terms) / len(terms)


def contrastive_accuracy(first: View, second: View) -> tf.Tensor:
    """How often a projection is most similar to the other view of its own image: float32 [n], both directions."""
    targets = global_rows(first.local)

    def hits(anchors, candidates):
        found = tf.argmax(tf.matmul(anchors, candidates, transpose_b=True), axis=1, output_type=targets.dtype)
        return tf.cast(found == targets, tf.float32)

    return (hits(first.local, second.everywhere) + hits(second.local, first.everywhere)) / 2


def correlation_accuracy(first: View, second: View) -> tf.Tensor:
    """How often a projection's component correlates best with itself in the other view: float32 scalar.

    Computed over the global batch (Barlow Twins' cross-correlation matrix), so every replica gets the same value.
    """

    def standardise(z):
        centred = z - tf.reduce_mean(z, axis=0)
        return tf.math.divide_no_nan(centred, tf.math.reduce_std(z, axis=0))

    correlations = tf.matmul(standardise(first.everywhere), standardise(second.everywhere), transpose_a=True)
    own = tf.range(tf.shape(correlations)[0])
    hits = [tf.argmax(correlations, axis=axis, output_type=own.dtype) == own for axis in (0, 1)]
    return tf.reduce_mean(tf.cast(hits, tf.float32))


def projection_std(projections: View) -> tf.Tensor:
    """Standard deviation of the global batch's projections: 1 where they spread evenly over the sphere, 0 if collapsed.

    The mean over the d components, times the square root of d; float32 scalar.
    """
    deviation = tf.reduce_mean(tf.math.reduce_std(projections.everywhere, axis=0))
    return deviation * tf.sqrt(tf.cast(tf.shape(projections.everywhere)[1], tf.float32))
