"""The support set: recent projections, among which the nearest neighbour of every projection is searched."""

from typing import NamedTuple

import tensorflow as tf

# The number of members that are compared at a time, and the number of members that share a maximum.
_CHUNK, _BLOCK = 4096, 64


class Neighbours(NamedTuple):
    """The nearest members of N projections.

    Attributes:
        vectors: The members, float32 [N, width].
        ages: Number of images that were enqueued after each member, float32 [N].
    """

    vectors: tf.Tensor
    ages: tf.Tensor


class SupportSet(tf.Module):
    """A first-in-first-out queue of L2-normalised projections (arXiv 2104.14548, section 3.2).

    Created in the scope of a distribution strategy, it is a single set with a copy on every replica: all replicas
    search the same members, and every replica must call `enqueue` with the same global batch.

    Args:
        size: Number of members, which need not be a multiple of the batch size.
        width: Length of a projection.
        seed: Seed of the random unit vectors that are the first members.
    """

    def __init__(self, size: int, width: int, seed: int):
        super().__init__(name="support_set")
        start = tf.random.stateless_normal([size, width], [seed, 0])
        # Without aggregation each replica updates its own copy. All compute the same from the gathered batch.
        self.members = tf.Variable(tf.math.l2_normalize(start, axis=1), trainable=False, name="members")
        self.pointer = tf.Variable(tf.zeros([], tf.int64), trainable=False, name="pointer")

    def nearest(self, projections: tf.Tensor, k: int = 1, choice: tf.Tensor | None = None) -> Neighbours:
        """Returns the member with the largest dot product for each projection, without gradient.

        Args:
            projections: Projections, float32 [N, width].
            k: Above 1, one of the k nearest members is returned (as in the ablations of arXiv 2104.14548).
            choice: Uniform numbers in [0, 1) that choose among the k members, float32 [N]; needed if k is above 1.
        """
        positions = self._nearest(projections) if k == 1 else self._one_of_the_nearest(projections, k, choice)
        ages = (self.pointer - 1 - positions) % self.members.shape[0]
        return Neighbours(tf.stop_gradient(tf.gather(self.members, positions)), tf.cast(ages, tf.float32))

    def _nearest(self, projections: tf.Tensor) -> tf.Tensor:
        """Returns the positions of the members with the largest dot products, int64 [N].

        Only the largest similarity of each block of members is kept, because the similarities to all members would take
        400 MB for a thousand projections and the paper's set. Then the best block is searched.
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
        positions = tf.minimum(first[:, tf.newaxis] + tf.range(_BLOCK, dtype=tf.int64), size - 1)
        inside = tf.linalg.matvec(tf.gather(members, positions), projections)
        return tf.gather(positions, tf.argmax(inside, axis=1), batch_dims=1)

    def _one_of_the_nearest(self, projections: tf.Tensor, k: int, choice: tf.Tensor | None) -> tf.Tensor:
        assert choice is not None
        ranked = tf.math.top_k(tf.matmul(projections, self.members, transpose_b=True), k).indices
        return tf.cast(tf.gather(ranked, tf.cast(choice * k, tf.int32), batch_dims=1), tf.int64)

    def enqueue(self, projections: tf.Tensor) -> None:
        """Replaces the oldest members with the projections of one view of the global batch, float32 [N, width]."""
        size = self.members.shape[0]
        newest = projections[-size:]
        count = tf.shape(newest, tf.int64)[0]
        positions = (self.pointer + tf.range(count)) % size
        updated = tf.tensor_scatter_nd_update(self.members, positions[:, tf.newaxis], tf.stop_gradient(newest))
        self.members.assign(updated)
        self.pointer.assign((self.pointer + count) % size)
