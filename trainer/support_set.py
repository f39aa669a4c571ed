"""The support set: recent projections, in which every sample finds its nearest neighbour."""

from typing import NamedTuple

import tensorflow as tf


class Neighbours(NamedTuple):
    """What was found for N projections: `vectors` float32 [N, width]; `ages` float32 [N], in images enqueued since."""

    vectors: tf.Tensor
    ages: tf.Tensor


class SupportSet(tf.Module):
    """A first-in-first-out queue of L2-normalised projections (arXiv 2104.14548, section 3.2).

    Created in a distribution strategy's scope, it is one set, mirrored: every replica searches the same members, and
    `enqueue` must be given the same global batch on each.

    Args:
        size: number of members; need not be a multiple of the batch.
        width: length of a projection.
        seed: of the random unit vectors that it starts with.
    """

    def __init__(self, size: int, width: int, seed: int):
        super().__init__(name="support_set")
        start = tf.random.stateless_normal([size, width], [seed, 0])
        # All replicas compute the same update from the gathered batch, so the first one's stands for all.
        shared = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self.members = tf.Variable(tf.math.l2_normalize(start, axis=1), name="members", **shared)
        self.pointer = tf.Variable(tf.zeros([], tf.int64), name="pointer", **shared)

    def nearest(self, projections: tf.Tensor, k: int = 1, choice: tf.Tensor | None = None) -> Neighbours:
        """The member with the largest dot product for each projection, without gradient.

        Args:
            projections: float32 [N, width].
            k: above 1, one of the k nearest (as in the ablations of arXiv 2104.14548).
            choice: which of the k, float32 [N], uniform in [0, 1).
        """
        similarities = tf.matmul(projections, self.members, transpose_b=True)
        if k == 1:
            places = tf.argmax(similarities, axis=1)
        else:
            assert choice is not None
            ranked = tf.math.top_k(similarities, k).indices
            places = tf.cast(tf.gather(ranked, tf.cast(choice * k, tf.int32), batch_dims=1), tf.int64)
        ages = (self.pointer - 1 - places) % self.members.shape[0]
        return Neighbours(tf.stop_gradient(tf.gather(self.members, places)), tf.cast(ages, tf.float32))

    def enqueue(self, projections: tf.Tensor) -> None:
        """Replaces the oldest members with the projections of one view, float32 [N, width]."""
        size = self.members.shape[0]
        newest = projections[-size:]
        count = tf.shape(newest, tf.int64)[0]
        places = (self.pointer + tf.range(count)) % size
        updated = tf.tensor_scatter_nd_update(self.members, places[:, tf.newaxis], tf.stop_gradient(newest))
        self.members.assign(updated)
        self.pointer.assign((self.pointer + count) % size)
