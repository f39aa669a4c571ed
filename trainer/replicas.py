"""What a replica shares with the other replicas of a training. Every function here runs in a replica context."""

from typing import NamedTuple

import tensorflow as tf


class View(NamedTuple):
    """Vectors of one view of the images: this replica's rows, [n, d], and the rows of all replicas, [N, d]."""

    local: tf.Tensor
    everywhere: tf.Tensor


def stack(local: tf.Tensor) -> tf.Tensor:
    """Stacks the tensors of all replicas in one collective: [...] of equal shape to [replicas, ...].

    The gradient of a slot is the sum of all replicas' gradients, and flows back to the slot's own replica.

    Every replica fills its slot of a tensor of zeros, and these tensors are summed, which is exact because x + 0 = x.
    TensorFlow's `all_gather` allows for replicas with different numbers of rows: it exchanges these first, in a
    collective of their own, for which a GPU waits.
    """
    context = tf.distribute.get_replica_context()
    before = context.replica_id_in_sync_group
    around = [[before, count() - 1 - before], *[[0, 0]] * local.shape.rank]
    slots = tf.ensure_shape(tf.pad(local[tf.newaxis], around), [count(), *local.shape])
    return context.all_reduce(tf.distribute.ReduceOp.SUM, slots)


def gather(*quantities: tf.Tensor) -> list[View]:
    """Gathers tensors [n, d] from all replicas in one collective. Gradients flow back to the rows' own replica."""
    widths = [quantity.shape[1] for quantity in quantities]
    together = tf.reshape(stack(tf.concat(quantities, axis=1)), [-1, sum(widths)])
    return [View(*pair) for pair in zip(quantities, tf.split(together, widths, axis=1), strict=True)]


def count() -> int:
    """Returns the number of replicas."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def global_rows(local: tf.Tensor) -> tf.Tensor:
    """Returns the positions of this replica's rows in the global batch, int32 [n]; `local` is any tensor of n rows."""
    rows = tf.shape(local)[0]
    return tf.distribute.get_replica_context().replica_id_in_sync_group * rows + tf.range(rows)


def global_mean(per_sample: tf.Tensor) -> tf.Tensor:
    """Returns this replica's share of a mean over the global batch: the sum of all replicas' shares is the mean."""
    rows = tf.shape(per_sample)[0] * count()
    return tf.reduce_sum(per_sample) / tf.cast(rows, per_sample.dtype)
