"""Embeds the images of a split."""

import numpy as np
import tensorflow as tf

from components.linear_probe_evaluator.probes import Labelled
from trainer import examples
from trainer.export import Embeddings
from trainer.progress import Reporter

_BATCH = 256


def embed(embeddings: Embeddings, files: list[str], size: tuple[int, int], reporter: Reporter) -> Labelled:
    """Features and labels of the images in TFRecord files, in the files' order."""
    features, labels = [], []
    for records in tf.data.TFRecordDataset(files).batch(_BATCH).prefetch(tf.data.AUTOTUNE):
        parsed = examples.parse(records, examples.IMAGE, examples.LABEL)
        features.append(embeddings(examples.pixels(parsed[examples.IMAGE], size)))
        labels.append(parsed[examples.LABEL].numpy())
        reporter.advance(len(labels[-1]))
    return Labelled(np.concatenate(features), np.concatenate(labels))
