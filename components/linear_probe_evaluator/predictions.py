"""The table `predictions.parquet`: what the probe says of each test image, and the training images it resembles."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.neighbors import NearestNeighbors

from components.linear_probe_evaluator.probes import Labelled, Score

_NEIGHBOURS = 5


def parquet(
    train: Labelled, test: Labelled, score: Score, classes: list[str], train_ids: np.ndarray, test_ids: np.ndarray
) -> bytes:
    """Returns the table as a Parquet file, with a row for each test image.

    Columns: `id`; `label` and `predicted`, names of classes; `probability` of the predicted class by the probe; and
    `nearest`, the ids of the five training images with the nearest embeddings by cosine similarity, the nearest first.

    Args:
        train: Features and labels of the train split.
        test: Features and labels of the test split.
        score: The probe's score on the test split.
        classes: Names of the classes, in the order of the labels.
        train_ids: Ids of the training images, [N].
        test_ids: Ids of the test images, [M].
    """
    index = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(train.labels)), metric="cosine").fit(train.features)
    nearest = index.kneighbors(test.features, return_distance=False)
    names = np.array(classes)
    table = pa.table(
        {
            "id": pa.array(test_ids.tolist(), pa.string()),
            "label": pa.array(names[test.labels].tolist(), pa.string()),
            "predicted": pa.array(names[score.predicted].tolist(), pa.string()),
            "probability": pa.array(score.probability, pa.float32()),
            "nearest": pa.array(train_ids[nearest].tolist(), pa.list_(pa.string())),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()
