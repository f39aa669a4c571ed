"""Fine-tuning: trains a whole encoder on labelled images, as the second half of the Keras example does.

The accuracy is only reported and plays no part in the evaluator's verdict.
"""

import keras
import numpy as np
import tensorflow as tf

from trainer import augmentation, export
from trainer.augmentation import StoredImages
from trainer.data import LabelledPixels
from trainer.progress import Reporter

# Different from the streams of pretraining (see trainer.step).
_STREAM = 100


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

    Images are augmented as in pretraining. The optimiser is Adam at a constant rate, in float32 on one device.

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
    encoder = export.load_encoder(directory)
    images = keras.Input(encoder.input_shape[1:])
    model = keras.Model(images, keras.layers.Dense(classes)(encoder(images)))
    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rows = min(batch_size, len(train.labels))

    @tf.function
    def step(pixels: tf.Tensor, labels: tf.Tensor, number: tf.Tensor) -> None:
        numbers = augmentation.uniform_numbers(seed, _STREAM, number, rows)
        with tf.GradientTape() as tape:
            views = augmentation.random_views(StoredImages.whole(pixels), [numbers], settings.augmentation)
            loss = loss_of(labels, model(views, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    reporter = Reporter("Fine-tuning", epochs * (len(train.labels) // rows) * rows)
    number = 0
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(train.labels))
        for first in range(0, len(order) - rows + 1, rows):
            wanted = order[first : first + rows]
            step(tf.constant(train.pixels[wanted]), tf.constant(train.labels[wanted]), tf.constant(number))
            number += 1
            reporter.advance(rows)
    predicted = [
        np.argmax(model(test.pixels[first : first + 256] / np.float32(255), training=False), -1)
        for first in range(0, len(test.labels), 256)
    ]
    return float((np.concatenate(predicted) == test.labels).mean())
