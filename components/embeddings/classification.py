"""Classifies embeddings by a fitted linear probe."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from components import artifact_files
from components.artifact_files import Content
from components.linear_probe_evaluator import artifact as evaluation_artifact
from trainer import export
from trainer.errors import SettingsError


class Guess(Content):
    """A class that an image may have.

    Attributes:
        label: Name of the class.
        probability: Its probability by the probe.
    """

    label: str
    probability: float


class Prediction(Content):
    """What the probe says of one image.

    Attributes:
        file: Path or id of the image.
        guesses: The most probable classes, the most probable first.
    """

    file: str
    guesses: tuple[Guess, ...]


class Probe(NamedTuple):
    """A fitted linear probe.

    Attributes:
        class_names: Names of the classes.
        probabilities: Maps embeddings, float32 [N, d], to the probabilities of the classes, float32 [N, classes].
        length: Number of values of an embedding; None for the encoder's own probe, which fits.
    """

    class_names: tuple[str, ...]
    probabilities: Callable[[np.ndarray], np.ndarray]
    length: int | None = None

    def predictions(self, files: Sequence[str], vectors: np.ndarray, most: int) -> Iterator[Prediction]:
        """Yields the most probable classes of each image.

        Args:
            files: Paths or ids of the images, [N].
            vectors: Their embeddings, float32 [N, d].
            most: The number of classes for each image.

        Raises:
            SettingsError: If the probe is for embeddings of another length.
        """
        if self.length not in (None, vectors.shape[1]):
            raise SettingsError(
                f"The probe is for embeddings of length {self.length:,}, and these have length {vectors.shape[1]:,}: "
                "name the folder of a probe that was fitted on this encoder with --probe."
            )
        probabilities = self.probabilities(vectors)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :most]
        for file, row, best in zip(files, probabilities, order, strict=True):
            guesses = (Guess(label=self.class_names[i], probability=float(row[i])) for i in best)
            yield Prediction(file=file, guesses=tuple(guesses))


def released(directory: str) -> Probe | None:
    """Returns the probe in a released SavedModel; None if it has none."""
    description = export.describe_if_any(directory)
    if not description or not description.class_names:
        return None
    probabilities = export.probabilities(directory)
    return Probe(description.class_names, probabilities) if probabilities else None


def evaluated(directory: str) -> Probe:
    """Returns the probe that `nnclr evaluate` wrote into a folder, local or in a bucket.

    Raises:
        SettingsError: If there is none.
    """
    try:
        names = evaluation_artifact.read_metrics(directory).class_names
        probe = evaluation_artifact.read_probe(directory)
    except (FileNotFoundError, NotADirectoryError, artifact_files.DamagedFile) as error:
        raise SettingsError(
            f"--probe {directory} holds no fitted probe: name the folder that nnclr evaluate wrote for this encoder."
        ) from error
    return Probe(
        tuple(names), lambda vectors: softmax(vectors @ probe.weights + probe.bias, axis=1), len(probe.weights)
    )
