"""What the random views cost: this project's, and the same strengths made of Keras' preprocessing layers.

python -m tests.benchmarks.augmentations [--pixels 96]

Alternately, in one process, on random images, each inside a tf.function: images/s (median of 5 rounds), and the ratio.
Keras' layers draw from generators of their own: their views depend on how many devices share a batch, and a resumed
training cannot repeat them. They are not used whatever they cost; this says what that decision is worth.
"""

import argparse
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from trainer import augmentation
from trainer.config import AugmentationSettings

_BATCH, _ROUNDS, _REPEATS = 256, 5, 3
_JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
_STRENGTHS: dict[str, AugmentationSettings] = {
    "crop and flip": AugmentationSettings(brightness=0.0),
    "and colours": AugmentationSettings(**_JITTER, grey=0.2),
    "and blur": AugmentationSettings(**_JITTER, grey=0.2, blur=0.5),
}


def _keras_layers(name: str, pixels: int) -> keras.Sequential:
    layers = keras.layers
    stack: list[keras.layers.Layer] = [
        layers.RandomFlip("horizontal"),
        # Crops of 0.2 to 1 of the area are zooms by 1 / sqrt(area) that move.
        layers.RandomZoom((-0.55, 0.0), (-0.55, 0.0), fill_mode="reflect"),
        layers.RandomTranslation(0.25, 0.25, fill_mode="reflect"),
    ]
    if name != "crop and flip":
        stack += [
            layers.RandomColorJitter(
                value_range=(0, 1),
                brightness_factor=0.4,
                contrast_factor=0.4,
                saturation_factor=(0.3, 0.7),
                hue_factor=0.1,
            ),
            layers.RandomGrayscale(0.2),
        ]
    if name == "and blur":
        stack.append(layers.RandomGaussianBlur(0.5, kernel_size=9, sigma=0.9, value_range=(0, 1)))
    return keras.Sequential([keras.Input((pixels, pixels, 3)), layers.Rescaling(1 / 255), *stack])


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, default=96)
    pixels = parser.parse_args().pixels
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (_BATCH, pixels, pixels, 3), np.uint8))
    print(f"{'':16}{'ours':>12}{'Keras':>12}  images/s at {pixels}x{pixels}")
    for name, strengths in _STRENGTHS.items():
        layers = _keras_layers(name, pixels)

        @tf.function(autograph=False)
        def ours(step, strengths=strengths):
            numbers = augmentation.uniform_numbers(0, 0, step, _BATCH)
            return augmentation.random_views(augmentation.StoredImages.whole(images), [numbers], strengths)

        @tf.function(autograph=False)
        def theirs(step, layers=layers):
            return layers(tf.cast(images, tf.float32), training=True)

        rates: dict[str, list[float]] = {"ours": [], "theirs": []}
        for round_ in range(_ROUNDS + 1):
            for key, views in (("ours", ours), ("theirs", theirs)):
                start = time.perf_counter()
                for i in range(_REPEATS):
                    views(tf.constant(round_ * _REPEATS + i, tf.int64)).numpy()
                rates[key].append(_REPEATS * _BATCH / (time.perf_counter() - start))
        a, b = (statistics.median(rates[key][1:]) for key in ("ours", "theirs"))
        print(f"{name:16}{a:12,.0f}{b:12,.0f}  {a / b:.2f} times")


if __name__ == "__main__":
    main()
