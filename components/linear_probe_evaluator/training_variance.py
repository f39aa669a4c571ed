"""Tells how much encoders differ that were trained in the same way, and how much of that the test images explain."""

import itertools
import math
from collections import defaultdict

import numpy as np

from trainer import export


def sentences(models: dict[str, str], hits: dict[str, np.ndarray]) -> list[str]:
    """Returns a sentence for each group of trainings that differ in nothing but the seed.

    Args:
        models: The directories of the SavedModels by name. Those that nnclr did not export belong to no group.
        hits: Whether each encoder's probe on all labels is right on each test image, bool [N] by name.
    """
    groups = defaultdict(list)
    for name, directory in models.items():
        if trained := _settings_without_seed(directory):
            groups[trained].append(name)
    return [_sentence({name: hits[name] for name in names}) for names in groups.values() if len(names) > 1]


def _settings_without_seed(directory: str) -> str | None:
    """Returns the image size and the settings as text; None if nnclr did not export the model."""
    described = export.describe_if_any(directory)
    if described is None:
        return None
    # When a training is measured and saved, and where it computes, does not make it another one.
    ignored = {"seed", "checkpoint", "watch", "devices", "from_checkpoint"}
    return f"{described.image_size} {described.settings.model_dump_json(exclude=ignored)}"


def _sentence(hits: dict[str, np.ndarray]) -> str:
    accuracies = [float(right.mean()) for right in hits.values()]
    images = len(next(iter(hits.values())))
    differing = [float(np.mean(one != other)) for one, other in itertools.combinations(hits.values(), 2)]
    # If all encoders were equally good, the difference of two would have this variance, and each of them half of it.
    chance = math.sqrt(np.mean(differing) / images / 2)
    return (
        f"{', '.join(hits)} differ in nothing but the seed of the training and the images. Their accuracies, "
        f"{min(accuracies):.1%} to {max(accuracies):.1%}, have a standard deviation of "
        f"{100 * np.std(accuracies, ddof=1):.1f} points; equally good encoders would have one of {100 * chance:.1f} "
        f"points on {images:,} test images."
    )
