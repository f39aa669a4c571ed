"""What a replica shares with the other replicas of a training. Every function here runs in a replica context."""

from typing import NamedTuple

import tensorflow as tf


class View(NamedTuple):
    """Vectors of one view of the images: this replica's rows, [n, d], and the rows of all replicas, [N, d]."""

    local: tf.Tensor
    everywhere: tf.Tensor


def gather(*quantities: tf.Tensor) -> list[View]:
    """Gathers tensors [n, d] from all replicas in one collective. Gradients flow back to the rows' own replica."""
    together = tf.distribute.get_replica_context().all_gather(tf.concat(quantities, axis=1), axis=0)
    everywhere = tf.split(together, [quantity.shape[1] for quantity in quantities], axis=1)
    return [View(*pair) for pair in zip(quantities, everywhere, strict=True)]


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
