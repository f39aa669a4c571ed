"""Does the preset `keras-example` learn as the Keras example does? Both on the same batches, side by side.

python -m tests.benchmarks.textbook EXAMPLES [--epochs 4] [--precision float32]

EXAMPLES is a folder that `nnclr ingest` wrote. The textbook is a plain
transcription of the example's method (keras.io/examples/vision/nnclr) in float32: an encoder call for each view, four
neighbour searches, a loss that is not averaged, labelled images among the unlabelled ones, a probe pass, Keras' own
layers for flips. Its contrastive accuracy is taken from projections, as this project's is (the example's own looks at
encoder features). Prints both c_acc of each epoch and their ratio.
"""

import argparse
import glob

import keras
import numpy as np
import tensorflow as tf

from trainer import data, loop, splits
from trainer.config import TrainerSettings

_SETTINGS = TrainerSettings(precision="float32")
_WIDTH, _TEMPERATURE, _QUEUE, _CLASSES = 128, 0.1, 10_000, 10


class _RandomResizedCrop(keras.layers.Layer):
    def __init__(self, smallest: float):
        super().__init__()
        self._smallest = smallest

    def call(self, images):
        count = tf.shape(images)[0]
        area = tf.random.uniform([count], self._smallest, 1.0)
        ratio = tf.exp(tf.random.uniform([count], np.log(3 / 4), np.log(4 / 3)))
        heights = tf.clip_by_value(tf.sqrt(area / ratio), 0, 1)
        widths = tf.clip_by_value(tf.sqrt(area * ratio), 0, 1)
        top = tf.random.uniform([count], 0, 1 - heights)
        left = tf.random.uniform([count], 0, 1 - widths)
        boxes = tf.stack([top, left, top + heights, left + widths], axis=1)
        return tf.image.crop_and_resize(images, boxes, tf.range(count), tf.shape(images)[1:3])


class _RandomBrightness(keras.layers.Layer):
    def __init__(self, strength: float):
        super().__init__()
        self._strength = strength

    def call(self, images):
        factor = tf.random.uniform([tf.shape(images)[0], 1, 1, 1], 1 - self._strength, 1 + self._strength)
        return tf.clip_by_value(images * factor, 0.0, 1.0)


class Textbook:
    """The example's model and training step.

    Args:
        size: height and width of the images.
    """

    def __init__(self, size: tuple[int, int]):
        layers = keras.layers
        self.augment = keras.Sequential(
            [
                layers.Rescaling(1 / 255),
                layers.RandomFlip("horizontal"),
                _RandomResizedCrop(0.2),
                _RandomBrightness(0.5),
            ]
        )
        convolutions = [layers.Conv2D(_WIDTH, 3, strides=2, activation="relu") for _ in range(4)]
        self.encoder = keras.Sequential(
            [keras.Input((*size, 3)), *convolutions, layers.Flatten(), layers.Dense(_WIDTH, activation="relu")]
        )
        self.head = keras.Sequential(
            [keras.Input((_WIDTH,)), layers.Dense(_WIDTH, activation="relu"), layers.Dense(_WIDTH)]
        )
        self.probe = keras.Sequential([keras.Input((_WIDTH,)), layers.Dense(_CLASSES)])
        self.probe_augment = keras.Sequential(
            [
                layers.Rescaling(1 / 255),
                layers.RandomFlip("horizontal"),
                _RandomResizedCrop(0.5),
                _RandomBrightness(0.3),
            ]
        )
        self.optimizer, self.probe_optimizer = keras.optimizers.Adam(), keras.optimizers.Adam()
        self.queue = tf.Variable(tf.math.l2_normalize(tf.random.normal([_QUEUE, _WIDTH]), axis=1))

    def _neighbour(self, projections):
        nearest = tf.gather(self.queue, tf.argmax(projections @ tf.transpose(self.queue), axis=1))
        return projections + tf.stop_gradient(nearest - projections)

    def _loss(self, first, second):
        similarities = [
            self._neighbour(first) @ tf.transpose(second) / _TEMPERATURE,
            second @ tf.transpose(self._neighbour(first)) / _TEMPERATURE,
            self._neighbour(second) @ tf.transpose(first) / _TEMPERATURE,
            first @ tf.transpose(self._neighbour(second)) / _TEMPERATURE,
        ]
        labels = tf.tile(tf.range(tf.shape(first)[0]), [4])
        return keras.losses.sparse_categorical_crossentropy(labels, tf.concat(similarities, axis=0), from_logits=True)

    @tf.function(autograph=False)
    def step(self, unlabelled, labelled, labels):
        """One update from uint8 images, and one of the probe; the projections' contrastive accuracy, a scalar."""
        images = tf.cast(tf.concat([unlabelled, labelled], axis=0), tf.float32)
        first_view, second_view = self.augment(images, training=True), self.augment(images, training=True)
        with tf.GradientTape() as tape:
            first = tf.math.l2_normalize(self.head(self.encoder(first_view)), axis=1)
            second = tf.math.l2_normalize(self.head(self.encoder(second_view)), axis=1)
            loss = self._loss(first, second)
        variables = self.encoder.trainable_variables + self.head.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        self.queue.assign(tf.concat([first, self.queue[: -first.shape[0]]], axis=0))
        features = self.encoder(self.probe_augment(tf.cast(labelled, tf.float32), training=True))
        with tf.GradientTape() as tape:
            loss = keras.losses.sparse_categorical_crossentropy(labels, self.probe(features), from_logits=True)
        variables = self.probe.trainable_variables
        self.probe_optimizer.apply(tape.gradient(loss, variables), variables)
        own = tf.range(tf.shape(first)[0], dtype=tf.int64)
        hits = [
            tf.reduce_mean(tf.cast(tf.argmax(a @ tf.transpose(b), axis=1) == own, tf.float32))
            for a, b in ((first, second), (second, first))
        ]
        return (hits[0] + hits[1]) / 2


def textbook_curve(files: dict[str, list[str]], size: tuple[int, int], epochs: int) -> list[float]:
    """Mean contrastive accuracy of each epoch."""
    keras.utils.set_random_seed(1)
    model, curve = Textbook(size), []
    labelled_split = data.LabelledSplit(files[splits.TRAIN], size, _SETTINGS.online_probe.holdout)
    for epoch in range(1, epochs + 1):
        order = data.Order(_SETTINGS.shuffle_buffer, _SETTINGS.seed, epoch)
        unlabelled = data.unlabelled_batches(files[splits.UNLABELLED], size, _SETTINGS.batch_size, order)
        labelled = labelled_split.training_batches(_SETTINGS.online_probe.batch_size, order)
        both = tf.data.Dataset.zip(unlabelled, labelled).prefetch(2)
        curve.append(float(np.mean([model.step(a["image"], b["image"], b["label"]) for a, b in both])))
    return curve


def main() -> None:
    """Trains both and prints their curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="of keras-example")
    arguments = parser.parse_args()
    files = {
        split: sorted(glob.glob(f"{arguments.examples}/Split-{split}/*")) for split in (splits.UNLABELLED, splits.TRAIN)
    }
    size = data.survey(files[splits.UNLABELLED]).largest
    settings = _SETTINGS.model_copy(update={"epochs": arguments.epochs, "precision": arguments.precision})
    _, result = loop.train(settings, loop.Job(files[splits.UNLABELLED], files[splits.TRAIN]))
    ours = [row["c_acc"] for row in result.history]
    theirs = textbook_curve(files, size, arguments.epochs)
    print("epoch  textbook  keras-example  ratio")
    for epoch, (a, b) in enumerate(zip(theirs, ours, strict=True), 1):
        print(f"{epoch:5}  {a:8.3f}  {b:13.3f}  {b / a:5.2f}")


if __name__ == "__main__":
    main()
