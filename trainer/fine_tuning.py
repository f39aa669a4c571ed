"""Trains a whole encoder on labelled images: fine-tuning of a pretrained one, and training from scratch.

The figures are only reported, unless the evaluator's settings say that an encoder must beat the one from scratch.
"""

import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from trainer import augmentation, export, layerwise
from trainer.augmentation import StoredImages
from trainer.config import AugmentationSettings
from trainer.data import LabelledPixels
from trainer.progress import Reporter

# Different from the streams of pretraining (see trainer.step).
_STREAM = 100
# Of the labelled images, this share of each class is held out, if each class has so many images.
_HELD_OUT, _LEAST_PER_CLASS = 0.2, 5
# Least number of steps between two measurements, which would otherwise take longer than the steps on few images.
_LEAST_STEPS = 20
# A loss at which nothing is left to learn: every image has its class with a probability of 99 %.
_LEARNED = 0.01

logger = logging.getLogger("nnclr")


class _Classifier:
    """An encoder with a dense layer on top, in float32 on one device, and its optimiser.

    Images are augmented as in pretraining. The optimiser is Adam at a constant rate.

    Args:
        encoder: The encoder, which is trained as well.
        classes: Number of classes.
        views: Augmentation of the images.
        rows: Number of images in a step.
        learning_rate: Learning rate of Adam.
        seed: Seed of the views.
    """

    def __init__(
        self,
        encoder: keras.Model,
        classes: int,
        views: AugmentationSettings,
        rows: int,
        learning_rate: float,
        seed: int,
    ):
        images = keras.Input(encoder.input_shape[1:])
        self.model = keras.Model(images, keras.layers.Dense(classes)(encoder(images)))
        optimizer = keras.optimizers.Adam(learning_rate)
        optimizer.build(self.model.trainable_variables)
        loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._steps = 0

        @tf.function
        def step(pixels: tf.Tensor, labels: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
            numbers = augmentation.uniform_numbers(seed, _STREAM, number, rows)
            with tf.GradientTape() as tape:
                augmented = augmentation.random_views(StoredImages.whole(pixels), [numbers], views)
                loss = loss_of(labels, self.model(augmented, training=True))
            optimizer.apply(tape.gradient(loss, self.model.trainable_variables), self.model.trainable_variables)
            return loss

        self._step = step

    def step(self, images: LabelledPixels) -> float:
        """Trains on a batch and returns its loss."""
        number = tf.constant(self._steps)
        self._steps += 1
        return float(self._step(tf.constant(images.pixels), tf.constant(images.labels), number))

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the logits of images, uint8 [N, height, width, 3]: float32 [N, classes]."""
        batch = export.batch_of(pixels.shape[1:3])
        parts = [
            self.model(pixels[first : first + batch] / np.float32(255), training=False)
            for first in range(0, len(pixels), batch)
        ]
        return np.concatenate(parts)

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the most probable classes of images, uint8 [N, height, width, 3]: int64 [N]."""
        return np.argmax(self.logits(pixels), -1)


def accuracy(
    directory: str,
    train: LabelledPixels,
    test: LabelledPixels,
    classes: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> float:
    """Fine-tunes an exported encoder with a dense layer on top and returns its accuracy on `test`.

    Args:
        directory: Folder of the exported SavedModel, which is not changed.
        train: Images to train on.
        test: Images to measure the accuracy on.
        classes: Number of classes.
        epochs: Number of passes over `train`.
        batch_size: Largest number of images in a step.
        learning_rate: Learning rate of Adam.
        seed: Seed of the order, the views and the dense layer.
    """
    keras.utils.set_random_seed(seed)
    settings = export.describe(directory).settings
    rows = min(batch_size, len(train.labels))
    encoder = export.load_encoder(directory)
    if settings.encoder.keeps_statistics:
        layerwise.keep_statistics(encoder)
    classifier = _Classifier(encoder, classes, settings.augmentation, rows, learning_rate, seed)
    reporter = Reporter("Fine-tuning", epochs * (len(train.labels) // rows) * rows)
    for epoch in range(epochs):
        for batch in _batches(train, rows, seed, epoch):
            classifier.step(batch)
            reporter.advance(rows)
    return float((classifier.predict(test.pixels) == test.labels).mean())


def _batches(images: LabelledPixels, rows: int, seed: int, epoch: int) -> Iterator[LabelledPixels]:
    """Yields whole batches of one pass over the images, in random order."""
    order = np.random.default_rng([seed, epoch]).permutation(len(images.labels))
    for first in range(0, len(order) - rows + 1, rows):
        yield _taken(images, order[first : first + rows])


def _endless(images: LabelledPixels, rows: int, seed: int) -> Iterator[LabelledPixels]:
    return itertools.chain.from_iterable(_batches(images, rows, seed, epoch) for epoch in itertools.count(1))


def _taken(images: LabelledPixels, rows: np.ndarray) -> LabelledPixels:
    return LabelledPixels(images.pixels[rows], images.labels[rows])


@dataclass(frozen=True)
class FromScratch:
    """The result of a training from scratch.

    Attributes:
        predicted: The classes of the test images, int64 [N].
        seconds: Time of the steps and measurements, without that in which TensorFlow compiles the first ones.
        steps: Number of steps.
    """

    predicted: np.ndarray
    seconds: float
    steps: int


def from_scratch(
    directory: str,
    train: LabelledPixels,
    test: np.ndarray,
    classes: int,
    seconds: float | None,
    batch_size: int,
    learning_rate: float,
    patience: int,
    seed: int,
) -> FromScratch:
    """Trains an untrained encoder of an exported one's architecture, with a dense layer on top, on labelled images.

    This is what somebody would do who has the labelled images only. The images are augmented as in pretraining. If
    each class has at least 5 images, a fifth of each class is held out. After each pass over the other images, and at
    least 20 steps, the loss on the held-out images is measured; without held-out images, the mean loss of these steps
    counts instead. The training ends when this loss has not fallen in `patience` measurements, when it is below 0.01,
    or after `seconds`. The weights of the lowest loss are the result.

    Args:
        directory: Folder of the exported SavedModel that has the architecture.
        train: Images to train on.
        test: Images to classify, uint8 [N, height, width, 3].
        classes: Number of classes.
        seconds: Longest time of the training; None is without limit.
        batch_size: Largest number of images in a step.
        learning_rate: Learning rate of Adam.
        patience: Number of measurements without a lower loss after which the training ends.
        seed: Seed of the first weights, the held-out images, the order and the views.
    """
    keras.utils.set_random_seed(seed)
    description = export.describe(directory)
    fitted, held_out = _divided(train, seed)
    rows = min(batch_size, len(fitted.labels))
    encoder = export.untrained_encoder(directory)
    classifier = _Classifier(encoder, classes, description.settings.augmentation, rows, learning_rate, seed)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def measured(losses: list[float]) -> float:
        if not len(held_out.labels):
            return float(np.mean(losses))
        return float(loss_of(held_out.labels, classifier.logits(held_out.pixels)))

    best, lowest, without_progress = classifier.model.get_weights(), float("inf"), 0
    # These compile, and the first step is one of many.
    measured([classifier.step(next(_batches(fitted, rows, seed, 0)))])
    start, steps = time.monotonic(), 1
    end = start + seconds if seconds is not None else float("inf")
    batches = _endless(fitted, rows, seed)
    while without_progress < patience and lowest > _LEARNED and time.monotonic() < end:
        losses = []
        for batch in itertools.islice(batches, max(_LEAST_STEPS, len(fitted.labels) // rows)):
            losses.append(classifier.step(batch))
            if time.monotonic() > end:
                break
        steps += len(losses)
        loss = measured(losses)
        without_progress += 1
        if loss < lowest:
            best, lowest, without_progress = classifier.model.get_weights(), loss, 0
    spent = time.monotonic() - start
    classifier.model.set_weights(best)
    logger.info("Trained from scratch on %d labels: %d steps in %.0f s.", len(train.labels), steps, spent)
    return FromScratch(classifier.predict(test), spent, steps)


def _divided(images: LabelledPixels, seed: int) -> tuple[LabelledPixels, LabelledPixels]:
    """Returns the images to train on and those that are held out, of which there may be none."""
    of_class = [np.flatnonzero(images.labels == label) for label in np.unique(images.labels)]
    held_out = np.zeros([len(images.labels)], bool)
    if min(len(rows) for rows in of_class) >= _LEAST_PER_CLASS:
        rng = np.random.default_rng(seed)
        for rows in of_class:
            held_out[rng.choice(rows, round(_HELD_OUT * len(rows)), False)] = True
    return _taken(images, ~held_out), _taken(images, held_out)
