"""The contrastive losses and their accuracies, for one replica's share of a global batch.

A loss compares the views of each image. It takes, for every view, this replica's L2-normalised projections z; for the
first two views, the nearest neighbours NN(z) of the projections in the support set; and the predictions, if any.
`loss_function` chooses one of the three losses by the setting `trainer.neighbour`.

Negatives are global (arXiv 2104.14548, section 3.2: the sum runs over the whole batch): every `View` holds the local
rows and, gathered from all replicas, the global rows. So the loss of a global batch does not depend on the number of
devices that share the batch.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

import tensorflow as tf

from trainer.config import Neighbour
from trainer.replicas import View, gather, global_rows


class Loss(Protocol):
    """A contrastive loss."""

    def __call__(
        self, z: tf.Tensor, neighbours: tf.Tensor, predictions: tf.Tensor | None, temperature: float
    ) -> tf.Tensor:
        """Returns the loss of each local image, float32 [n]. It is called in a replica context.

        Args:
            z: L2-normalised projections, float32 [views, n, d]: first the two whole views, then any small views.
            neighbours: Nearest neighbours of the two whole views' projections, float32 [2, n, d]; `simclr_loss` uses
                none.
            predictions: L2-normalised predictions of the projections, float32 [views, n, d]; None if the loss needs
                none.
            temperature: Divisor of the similarities.
        """
        ...


def loss_function(neighbour: Neighbour) -> Loss:
    """Returns the loss that the setting `trainer.neighbour` names."""
    match neighbour:
        case "paper":
            return paper_loss
        case "straight_through":
            return straight_through_loss
        case "none":
            return simclr_loss


def paper_loss(z: tf.Tensor, neighbours: tf.Tensor, predictions: tf.Tensor | None, temperature: float) -> tf.Tensor:
    """NNCLR's loss (arXiv 2104.14548, equation 2): neighbours without gradient against predictions p = h(z).

    -log(exp(NN(z_1i) p_2i / t) / sum over k of exp(NN(z_1i) p_2k / t)), averaged with the same loss of the exchanged
    views. Small views add further predictions, which are compared with both neighbours (arXiv 2006.09882, section 3.2).

    See `Loss` for the arguments and the result.
    """
    assert predictions is not None
    predicted = gather(*tf.unstack(predictions))
    # Anchors are not negatives of other anchors, so their global rows are not needed.
    anchors = [View(rows, rows) for rows in tf.unstack(neighbours)]
    return _mean(
        _cross_entropy(anchor, prediction, temperature) for anchor, prediction in _other_views(anchors, predicted)
    )


def straight_through_loss(
    z: tf.Tensor, neighbours: tf.Tensor, predictions: tf.Tensor | None, temperature: float
) -> tf.Tensor:
    """The Keras example's loss (keras.io/examples/vision/nnclr): neighbours against projections, in both directions.

    The anchor a = z + stop_gradient(NN(z) - z) has the neighbour's value and passes its gradient to z. The loss is the
    mean of -log(exp(a_1i z_2i / t) / sum over k of exp(a_1i z_2k / t)), the same with a_1 and z_2 exchanged, and both
    with the views exchanged. There is no prediction head.

    See `Loss` for the arguments and the result.
    """
    whole = z if z.shape[0] == 2 else z[:2]
    straight = whole + tf.stop_gradient(neighbours - whole)
    *projections, first, second = gather(*tf.unstack(z), *tf.unstack(straight))
    return _mean(
        _cross_entropy(*direction, temperature)
        for anchor, projection in _other_views([first, second], projections)
        for direction in ((anchor, projection), (projection, anchor))
    )


def simclr_loss(z: tf.Tensor, neighbours: tf.Tensor, predictions: tf.Tensor | None, temperature: float) -> tf.Tensor:
    """The InfoNCE loss (arXiv 2104.14548, equation 1), for comparison: projections against projections.

    -log(exp(z_1i z_2i / t) / sum over k of exp(z_1i z_2k / t)), averaged with the same loss of the exchanged views.
    As in that equation, the negatives of an image are the N - 1 other images of the batch in the other view. SimCLR's
    own loss (NT-Xent, arXiv 2002.05709, equation 1) also takes those in the same view, 2N - 2 altogether. Neither
    neighbours nor the prediction head are used.

    See `Loss` for the arguments and the result.
    """
    projections = gather(*tf.unstack(z))
    return _mean(
        _cross_entropy(anchor, projection, temperature)
        for anchor, projection in _other_views(projections[:2], projections)
    )


def _other_views(anchors: Sequence[View], candidates: Sequence[View]) -> list[tuple[View, View]]:
    """Pairs each anchor with the candidates of all other views of the same image."""
    return [(anchor, candidate) for i, anchor in enumerate(anchors) for j, candidate in enumerate(candidates) if i != j]


def _cross_entropy(anchors: View, candidates: View, temperature: float) -> tf.Tensor:
    """Returns -log softmax of each anchor's similarity to the candidate of its image, over the global batch: [n]."""
    logits = tf.matmul(anchors.local, candidates.everywhere, transpose_b=True) / temperature
    return tf.nn.sparse_softmax_cross_entropy_with_logits(global_rows(anchors.local), logits)


def _mean(terms: Iterable[tf.Tensor]) -> tf.Tensor:
    summands = list(terms)
    return tf.add_n(summands) / len(summands)


def contrastive_accuracy(first: View, second: View) -> tf.Tensor:
    """Returns how often a projection is most similar to the other view of its own image.

    Args:
        first: Projections of the first view.
        second: Projections of the second view.

    Returns:
        float32 [n]: the mean of both directions for each local image.
    """
    targets = global_rows(first.local)

    def hits(anchors, candidates):
        nearest = tf.argmax(tf.matmul(anchors, candidates, transpose_b=True), axis=1, output_type=targets.dtype)
        return tf.cast(nearest == targets, tf.float32)

    return (hits(first.local, second.everywhere) + hits(second.local, first.everywhere)) / 2


def correlation_accuracy(first: View, second: View) -> tf.Tensor:
    """Returns the share of a projection's components that correlate best with themselves in the other view.

    It comes from the cross-correlation matrix of the global batch (arXiv 2103.03230), so every replica gets the same
    float32 scalar.
    """

    def standardise(z):
        centred = z - tf.reduce_mean(z, axis=0)
        return tf.math.divide_no_nan(centred, tf.math.reduce_std(z, axis=0))

    correlations = tf.matmul(standardise(first.everywhere), standardise(second.everywhere), transpose_a=True)
    own = tf.range(tf.shape(correlations)[0])
    hits = [tf.argmax(correlations, axis=axis, output_type=own.dtype) == own for axis in (0, 1)]
    return tf.reduce_mean(tf.cast(hits, tf.float32))


def projection_std(projections: View) -> tf.Tensor:
    """Returns the standard deviation of the global batch's projections, a float32 scalar.

    It is the mean over the d components, times the square root of d: 1 if the projections spread evenly over the unit
    sphere, and 0 if they collapsed.
    """
    deviation = tf.reduce_mean(tf.math.reduce_std(projections.everywhere, axis=0))
    return deviation * tf.sqrt(tf.cast(tf.shape(projections.everywhere)[1], tf.float32))
