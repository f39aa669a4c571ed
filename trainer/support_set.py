"""The support set: recent projections, in which every sample finds its nearest neighbour."""

from typing import NamedTuple

import tensorflow as tf

# Members that are compared at a time, and how many of them share a maximum.
_CHUNK, _BLOCK = 4096, 64


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
        places = self._nearest(projections) if k == 1 else self._one_of_the_nearest(projections, k, choice)
        ages = (self.pointer - 1 - places) % self.members.shape[0]
        return Neighbours(tf.stop_gradient(tf.gather(self.members, places)), tf.cast(ages, tf.float32))

    def _nearest(self, projections: tf.Tensor) -> tf.Tensor:
        """Places of the largest dot products: int64 [N].

        Of each block of members only the largest is kept, so that the similarities to all members, 400 MB for a
        thousand rows and the paper's set, are never in memory at once; then the best block is looked through.
        """
        members, size = tf.convert_to_tensor(self.members), self.members.shape[0]
        largest = []
        for start in range(0, size, _CHUNK):
            similarities = tf.matmul(projections, members[start : start + _CHUNK], transpose_b=True)
            missing = -similarities.shape[1] % _BLOCK
            if missing:
                similarities = tf.pad(similarities, [[0, 0], [0, missing]], constant_values=similarities.dtype.min)
            blocks = tf.reshape(similarities, [-1, similarities.shape[1] // _BLOCK, _BLOCK])
            largest.append(tf.reduce_max(blocks, axis=2))
        first = _BLOCK * tf.argmax(tf.concat(largest, axis=1), axis=1)
        places = tf.minimum(first[:, tf.newaxis] + tf.range(_BLOCK, dtype=tf.int64), size - 1)
        inside = tf.linalg.matvec(tf.gather(members, places), projections)
        return tf.gather(places, tf.argmax(inside, axis=1), batch_dims=1)

    def _one_of_the_nearest(self, projections: tf.Tensor, k: int, choice: tf.Tensor | None) -> tf.Tensor:
        assert choice is not None
        ranked = tf.math.top_k(tf.matmul(projections, self.members, transpose_b=True), k).indices
        return tf.cast(tf.gather(ranked, tf.cast(choice * k, tf.int32), batch_dims=1), tf.int64)

    def enqueue(self, projections: tf.Tensor) -> None:
        """Replaces the oldest members with the projections of one view, float32 [N, width]."""
        size = self.members.shape[0]
        newest = projections[-size:]
        count = tf.shape(newest, tf.int64)[0]
        places = (self.pointer + tf.range(count)) % size
        updated = tf.tensor_scatter_nd_update(self.members, places[:, tf.newaxis], tf.stop_gradient(newest))
        self.members.assign(updated)
        self.pointer.assign((self.pointer + count) % size)
