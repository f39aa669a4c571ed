"""What a training must know of all records before it starts.

Ingest writes it beside the TFRecords, in one file for all splits, so that a start need not read them. Files that are
not listed there, or that were changed after it was written, are read. In either case, the checksums of TFRecords reveal
damage when a training reads a record.
"""

import hashlib
import posixpath
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf
from pydantic import BaseModel, ConfigDict, RootModel, ValidationError

from trainer import examples

#: Name of the file beside the folders of the splits.
FILE_NAME = "survey.json"

# A TFRecord file has the length of each record, and checksums of both.
_BYTES_AROUND_A_RECORD = 16
# As many requests at a time, as a bucket takes a while to answer each.
_REQUESTS = 16


class Survey(BaseModel):
    """A summary of records.

    Attributes:
        records: Number of records.
        fingerprint: Hash of the records' bytes in order.
        smallest: Least height and least width of the images; (0, 0) without images.
        largest: Greatest height and greatest width of the images; (0, 0) without images.
        labels: Least and greatest label; None without images, or if the labels were not asked for.
    """

    model_config = ConfigDict(frozen=True)

    records: int
    fingerprint: str
    smallest: tuple[int, int] = (0, 0)
    largest: tuple[int, int] = (0, 0)
    labels: tuple[int, int] | None = None


class SurveyedFile(BaseModel):
    """The survey of a file that had a certain length in bytes."""

    length: int
    survey: Survey


class Surveys(RootModel[dict[str, SurveyedFile]]):
    """The content of `survey.json`: the surveys of files by folder and name, such as `Split-train/data`."""


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
def _described(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.strings.to_hash_bucket_fast(records, 2**63 - 1), examples.shapes(records)


def of_batches(batches: Iterable[tf.Tensor], labelled: bool) -> Survey:
    """Summarises batches of serialised records, strings [n] each.

    Args:
        batches: The batches.
        labelled: Whether to summarise the labels as well.

    Raises:
        InvalidArgumentError: If a record is no image as in `examples`.
    """
    digest, shapes, labels = hashlib.sha256(), [np.zeros([0, 2], np.int64)], [np.zeros([0], np.int64)]
    for records in batches:
        hashes, found = _described(records)
        digest.update(hashes.numpy().tobytes())
        shapes.append(found.numpy())
        if labelled:
            labels.append(examples.parse(records, examples.LABEL)[examples.LABEL].numpy())
    each, classes = np.concatenate(shapes), np.concatenate(labels)
    if not len(each):
        return Survey(records=0, fingerprint=digest.hexdigest())
    return Survey(
        records=len(each),
        fingerprint=digest.hexdigest(),
        smallest=tuple(each.min(0).tolist()),
        largest=tuple(each.max(0).tolist()),
        labels=(int(classes.min()), int(classes.max())) if labelled else None,
    )


def of_file(records: Sequence[bytes]) -> SurveyedFile:
    """Summarises labelled records that are all records of a TFRecord file."""
    length = sum(len(record) + _BYTES_AROUND_A_RECORD for record in records)
    return SurveyedFile(length=length, survey=of_batches([tf.constant(records, tf.string)], labelled=True))


def joined(surveys: Iterable[Survey]) -> Survey:
    """Joins the surveys of several files, in order, to one of all their records."""
    present = [survey for survey in surveys if survey.records]
    fingerprint = hashlib.sha256("\n".join(survey.fingerprint for survey in present).encode()).hexdigest()
    if not present:
        return Survey(records=0, fingerprint=fingerprint)
    labels = [survey.labels for survey in present if survey.labels is not None]
    return Survey(
        records=sum(survey.records for survey in present),
        fingerprint=fingerprint,
        smallest=tuple(np.min([survey.smallest for survey in present], axis=0).tolist()),
        largest=tuple(np.max([survey.largest for survey in present], axis=0).tolist()),
        labels=(min(low for low, _ in labels), max(high for _, high in labels)) if labels else None,
    )


def known(files: list[str]) -> dict[str, Survey]:
    """Returns the surveys that lie beside TFRecords, of those files that are as they were when these were written."""
    found = {}
    for root in {_root(file) for file in files}:
        listing = posixpath.join(root, FILE_NAME)
        if not tf.io.gfile.exists(listing):
            continue
        with tf.io.gfile.GFile(listing, "rb") as file:
            try:
                surveys = Surveys.model_validate_json(file.read()).root
            except ValidationError:
                continue
        written = tf.io.gfile.stat(listing).mtime_nsec
        listed = [file for file in files if _root(file) == root and key(file) in surveys]
        with ThreadPoolExecutor(_REQUESTS) as pool:
            for file, state in zip(listed, pool.map(tf.io.gfile.stat, listed), strict=True):
                surveyed = surveys[key(file)]
                if state.length == surveyed.length and state.mtime_nsec <= written:
                    found[file] = surveyed.survey
    return found


def _root(file: str) -> str:
    return file.rpartition("/")[0].rpartition("/")[0]


def key(file: str) -> str:
    """Returns the name under which `survey.json` lists a file."""
    return "/".join(file.split("/")[-2:])
